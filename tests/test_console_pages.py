"""The console in a browser: status, playground, and the key. Nothing is faked but the providers."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from gwproto.testing import Knobs
from support.browser import (
    PHONE,
    Browser,
    Locator,
    Page,
    Route,
    ask,
    chromium,
    expect,
    give_key,
    go,
    overflow,
    visiting,
)
from support.servers import KEY, RUNTIMES, GatewayProcess, Provider, configuration, hosting, serving

pytestmark = pytest.mark.sockets

#: Every page on both servers; what is the browser's alone on one.
both = pytest.mark.parametrize("running", RUNTIMES, indirect=True)
OFTEN = "limits.public_requests_per_second = 0"  # one address opens the page again and again
MARKUP = '<img src=x onerror="alert(1)"><script>alert(2)</script>'


class World(NamedTuple):
    """A gateway, and its providers by name."""

    gateway: GatewayProcess
    alpha: Provider
    beta: Provider

    @property
    def url(self) -> str:
        return f"{self.gateway.url}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    runtime = getattr(request, "param", "trio")
    alpha, beta = Provider("alpha"), Provider("beta", models=("beta-model", MARKUP), format="anthropic")
    with hosting((alpha, beta)) as urls:
        config = configuration((alpha, beta), urls, OFTEN).replace(f'id = "{MARKUP}"', f"id = '{MARKUP}'")
        with serving(tmp_path_factory.mktemp("console"), runtime, config) as gateway:
            yield World(gateway, alpha, beta)


@pytest.fixture
def world(running: World) -> World:
    """As if nothing had happened yet."""
    for provider in (running.alpha, running.beta):
        provider.knobs = Knobs()
        provider.received.clear()
        provider.departures = 0
    with running.gateway.client() as client:
        assert client.ask({}, path="/v1/routing/reset").status == 200
    return running


@pytest.fixture
def page(browser: Browser, world: World) -> Iterator[Page]:
    """A visitor who has not given a key."""
    with visiting(browser, world.url) as page:
        yield page


@pytest.fixture
def playground(page: Page) -> Page:
    """The playground, of a visitor who has given the key and asks alpha."""
    page.get_by_role("button", name="Enter key").click()
    give_key(page)
    expect(page.get_by_role("button", name="Forget key")).to_be_visible()
    go(page, "Playground")
    page.get_by_role("combobox", name="Model").fill("alpha-model")
    return page


def setting(page: Page, label: str) -> Locator:
    return page.locator("#settings").get_by_label(label)


@both
def test_status_shows_every_target_without_a_key(page: Page) -> None:
    expect(page).to_have_title("Status · gwproto")
    expect(page.get_by_text("All 2 providers take requests.")).to_be_visible()
    for name in ("alpha", "beta"):
        card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name))
        expect(card.get_by_text("available")).to_be_visible()
    table = page.get_by_role("region", name="Fallback order")
    expect(table.get_by_role("row")).to_have_count(4)
    expect(table.get_by_role("rowheader").filter(has_text=MARKUP)).to_be_visible()
    expect(page.get_by_text("Updated ")).to_be_visible()


@both
def test_status_shows_who_is_down_and_for_how_long(browser: Browser, world: World) -> None:
    world.alpha.knobs = Knobs(status=503)
    with world.gateway.client() as client:
        while len(world.alpha.received) < 3:  # three failures in a row, and beta answers
            assert client.chat().status == 200
    with visiting(browser, world.url, clock=True) as page:
        expect(page.get_by_text("1 of 2 providers take requests. Not now: alpha.")).to_be_visible()
        card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="alpha"))
        expect(card.get_by_text("cooldown")).to_be_visible()
        reason = card.get_by_text("back in ")
        before = reason.inner_text()
        page.clock.fast_forward(1500)
        expect(reason).not_to_have_text(before)  # counts down by itself
        with world.gateway.client() as client:
            client.ask({"provider": "alpha"}, path="/v1/routing/reset")
        page.clock.fast_forward(2500)
        expect(card.get_by_text("cooldown")).to_have_count(0)  # and asks again by itself


def test_status_says_when_the_gateway_does_not_answer(browser: Browser, world: World) -> None:
    with visiting(browser, world.url, clock=True) as page:
        expect(page.get_by_text("All 2 providers")).to_be_visible()
        page.context.set_offline(True)
        page.clock.fast_forward(2500)
        expect(page.get_by_role("alert").get_by_text("The gateway does not answer.")).to_be_visible()
        expect(page.get_by_text("Last answer ")).to_be_visible()
        page.context.set_offline(False)
        page.clock.fast_forward(2500)
        expect(page.get_by_text("The gateway does not answer.")).to_be_hidden()


@both
def test_a_conversation(page: Page, world: World) -> None:
    go(page, "Playground")
    message = page.get_by_label("Message", exact=True)
    expect(message).to_be_focused()
    message.fill("one")
    message.press("Shift+Enter")
    message.press_sequentially("two")
    message.press("Enter")
    give_key(page, "not-the-key")
    expect(page.get_by_role("alert").get_by_text("Incorrect API key provided.")).to_be_visible()
    give_key(page)
    answers = page.locator(".assistant")
    expect(answers.nth(0)).to_contain_text('You said "one\ntwo", and ')
    expect(answers.nth(0)).to_contain_text(" tokens")
    expect(answers.nth(0)).to_contain_text("first content ")
    ask(page, "and three")
    expect(answers.nth(1)).to_contain_text('"and three"')
    expect(page.get_by_role("status").filter(has_text="Answer complete")).to_have_count(1)
    last = max((*world.alpha.received, *world.beta.received), key=lambda one: len(one.body["messages"]))
    assert [one["role"] for one in last.body["messages"]] == ["user", "assistant", "user"]
    answers.nth(1).get_by_text("What the gateway did").click()
    for fact in ("Provider", "Model", "Attempts", "Request id", "Server timing"):
        expect(answers.nth(1).get_by_text(fact, exact=True)).to_be_visible()
    link = answers.nth(1).get_by_role("link", name="Open its record")
    assert (link.get_attribute("href") or "").startswith("#requests?id=")
    page.get_by_role("button", name="Clear").click()
    expect(answers).to_have_count(0)


def test_the_key_is_forgotten_with_the_visit_or_on_demand(playground: Page) -> None:
    assert playground.evaluate("sessionStorage.length") == 0
    playground.reload()
    playground.get_by_role("button", name="Enter key").click()
    playground.get_by_label("Remember it until this tab is closed").check()
    give_key(playground)
    expect(playground.get_by_role("button", name="Forget key")).to_be_visible()
    playground.reload()
    playground.get_by_role("button", name="Forget key").click()
    assert playground.evaluate("sessionStorage.length") == 0
    ask(playground, "hello")
    playground.get_by_role("button", name="Cancel").click()
    expect(playground.get_by_role("alert").get_by_text("This needs a key of the gateway.")).to_be_visible()


def test_settings_go_with_the_request(playground: Page, world: World) -> None:
    for label, value in {
        "System message": "Be brief.",
        "Temperature": "0.5",
        "Max tokens": "50",
        "Project": "console-test",
    }.items():
        setting(playground, label).fill(value)
    playground.get_by_label("Reasoning effort").select_option("low")
    playground.get_by_label("Answer in JSON").check()
    ask(playground, "hello")
    expect(playground.locator(".assistant")).to_contain_text('{"echo":"hello","by":"alpha"}')
    body = world.alpha.received[0].body
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["stream"]) == (0.5, True)
    assert body["response_format"] == {"type": "json_object"}
    playground.get_by_text("Reasoning", exact=True).click()
    expect(playground.get_by_text("low effort will do")).to_be_visible()


def test_a_setting_that_is_wrong_is_said_before_anything_is_sent(playground: Page, world: World) -> None:
    alert = playground.get_by_role("alert")
    for label, wrong, words in (
        ("Temperature", "3", "Temperature: "),
        ("Project", "no spaces", "Project: 1 to 64 of A-Z"),
    ):
        setting(playground, label).fill(wrong)
        ask(playground, "hello")
        expect(alert.get_by_text(words)).to_be_visible()
        setting(playground, label).fill("")
    playground.get_by_label("Offer tools").check()
    playground.get_by_label("Tools, a JSON array").fill("[{")
    ask(playground, "hello")
    expect(alert.get_by_text("Tools: not JSON")).to_be_visible()
    assert world.alpha.received == []


def test_a_tool_is_called_and_its_result_sent_back(playground: Page, world: World) -> None:
    playground.get_by_label("Offer tools").check()
    ask(playground, "The weather in Basel?")
    answer = playground.locator(".assistant").first
    expect(answer.get_by_text("get_weather")).to_be_visible()
    expect(answer.locator("pre")).to_have_text('{"city":"Basel"}')
    answer.get_by_label("Result of the tool").fill("rain")
    answer.get_by_role("button", name="Send result").click()
    expect(playground.locator(".assistant").nth(1)).to_contain_text("The tool answered rain, says alpha.")
    roles = [one["role"] for one in world.alpha.received[1].body["messages"]]
    assert roles == ["user", "assistant", "tool"]


@both
def test_stopping_closes_the_providers_connection(playground: Page, world: World) -> None:
    world.alpha.knobs = Knobs(words=5000, pace=0.02)
    ask(playground, "go on")
    answer = playground.locator(".assistant")
    expect(answer).to_contain_text("You said")
    playground.get_by_role("button", name="Stop").click()
    expect(answer.get_by_text("stopped")).to_be_visible()
    world.alpha.wait(lambda alpha: alpha.departures == 1)
    world.alpha.knobs = Knobs()
    answer.get_by_role("button", name="Try again").click()
    expect(answer).to_contain_text('You said "go on", and alpha heard you.')
    assert len(world.alpha.received[1].body["messages"]) == 1


def test_errors_are_shown_with_their_codes_and_the_request(playground: Page, world: World) -> None:
    alert = playground.locator(".assistant").get_by_role("alert").last
    playground.get_by_role("combobox", name="Model").fill(MARKUP.replace("x", "y"))
    ask(playground, "hello")
    expect(alert).to_contain_text("does not exist")
    expect(alert).to_contain_text("invalid_request_error · model_not_found")
    expect(alert).to_contain_text("Request id ")
    playground.get_by_role("combobox", name="Model").fill("alpha-model")
    world.alpha.knobs = Knobs(reset_after=3)
    ask(playground, "hello")
    expect(alert).to_contain_text("The answer above is not complete.")
    expect(alert).to_contain_text("stream_truncated")
    expect(playground.locator(".assistant").last).to_contain_text("You said")


def test_a_stream_that_just_ends_is_cut_off(playground: Page) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "Half an ans"}}]}

    def half(route: Route) -> None:
        route.fulfill(content_type="text/event-stream", body=f"data: {json.dumps(chunk)}\n\ndata: {{")

    playground.route("**/v1/chat/completions", half)
    ask(playground, "hello")
    answer = playground.locator(".assistant")
    expect(answer).to_contain_text("Half an ans")
    expect(answer.get_by_role("alert")).to_contain_text("The answer was cut off")


def test_text_stays_text(playground: Page) -> None:
    ask(playground, MARKUP)
    answer = playground.locator(".assistant")
    expect(answer).to_contain_text(f'You said "{MARKUP}", and alpha heard you.')
    playground.get_by_role("combobox", name="Model").click()
    option = playground.get_by_role("option").filter(has_text=MARKUP)
    expect(option).to_be_visible()
    option.click()
    expect(playground.get_by_role("combobox", name="Model")).to_have_value(MARKUP)
    ask(playground, "and you")
    expect(playground.get_by_role("heading", name=f"beta · {MARKUP}")).to_be_visible()
    assert playground.locator("main img, main script, main [onerror]").count() == 0


def test_the_model_is_found_by_typing(playground: Page) -> None:
    model = playground.get_by_role("combobox", name="Model")
    model.fill("")
    options = playground.get_by_role("listbox", name="Models").get_by_role("option")
    expect(options.first).to_contain_text("auto")
    expect(options).to_have_count(4)
    model.fill("beta-m")
    expect(options).to_have_count(1)
    model.press("ArrowDown")
    model.press("Enter")
    expect(model).to_have_value("beta-model")
    expect(options).to_have_count(0)


def test_the_code_names_the_key_and_does_not_have_it(playground: Page) -> None:
    setting(playground, "Project").fill("it's")  # not valid, and said so
    setting(playground, "Project").fill("shop")
    playground.get_by_label("Message", exact=True).fill('it\'s "quoted" \\ and $HOME')
    playground.get_by_role("button", name="Copy as curl").click()
    code = playground.locator("#code")
    expect(code).to_contain_text("authorization: Bearer $GATEWAY_API_KEY")
    expect(code).to_contain_text("it'\\''s")
    assert KEY not in code.inner_text()
    playground.get_by_role("button", name="Close").click()
    playground.get_by_role("button", name="Copy as Python").click()
    expect(code).to_contain_text('api_key=os.environ["GATEWAY_API_KEY"]')
    written = code.text_content() or ""
    assert KEY not in written
    compile(written, "copied", "exec")
    assert json.dumps('it\'s "quoted" \\ and $HOME') in written
    playground.keyboard.press("Escape")
    expect(playground.get_by_role("dialog")).to_have_count(0)


def test_the_playground_by_keyboard_alone(page: Page) -> None:
    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.innerText || document.activeElement.id") == name:
                return
        raise AssertionError(f"no way to {name}")

    expect(page.get_by_text("All 2 providers")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    tab_to("Playground")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    tab_to("model")
    page.keyboard.type("alpha")
    expect(page.locator("#model-list li").first).to_be_visible()  # also if they come later than what is typed
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")  # Settings
    page.keyboard.press("Shift+Tab")  # Send
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.locator(".assistant")).to_contain_text("and alpha heard you.")


def test_suggestions_that_come_late_are_offered_all_the_same(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/models", lambda route: held.append(route))  # playwright counts parameters
    with page.expect_request("**/v1/models"):
        page.get_by_role("link", name="Playground").click()
    page.locator("#model").focus()
    page.keyboard.type("alph")
    expect(page.locator("#model-list li")).to_have_count(0)
    held[0].continue_()
    expect(page.locator("#model-list li").first).to_contain_text("alpha")


@pytest.mark.parametrize("name", ["Status", "Playground"])
def test_a_phone_needs_no_scrolling_sideways(browser: Browser, world: World, name: str) -> None:
    with visiting(browser, world.url, viewport=PHONE) as page:
        go(page, name)
        if name == "Playground":
            page.get_by_text("Settings", exact=True).click()
            page.get_by_label("Offer tools").check()
            ask(page, "Donaudampfschifffahrtsgesellschaft" * 20)
            give_key(page)
            expect(page.locator(".assistant .facts-line")).to_contain_text("total ")
        else:
            expect(page.get_by_text("All 2 providers")).to_be_visible()
        assert overflow(page) == 0
