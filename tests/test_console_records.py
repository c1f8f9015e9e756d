"""The console in a browser: analytics and requests, over a store with 10,000 records and what the tests add to them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gwproto import Ending, Outcome
from gwproto.testing import Knobs
from gwproto_ops.records.recorder import Recorder
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
from support.servers import RUNTIMES, GatewayProcess, Provider, configuration, hosting, serving
from support.traffic import CHAT, traffic

pytestmark = pytest.mark.sockets

both = pytest.mark.parametrize("running", RUNTIMES, indirect=True)
COUNT = 10_000
MARKUP = '<img src=x onerror="alert(1)">'
TARGETS = (("alpha", "alpha-model"), ("beta", "beta-model"), ("gamma", MARKUP))


class World(NamedTuple):
    gateway: GatewayProcess
    alpha: Provider

    @property
    def url(self) -> str:
        return f"{self.gateway.url}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with 10,000 records of four days, the last a minute old, and one that is older."""
    file = tmp_path_factory.mktemp("records") / "records.db"
    now = time.time()
    recorder = Recorder(f"sqlite:///{file}", limit=2 * COUNT)
    old = Outcome("of-long-ago", now - 20 * 86400, Ending.REFUSED, 400, "POST", CHAT, 0.001, project_id="old")
    recorder.put(old)
    for outcome in traffic(COUNT, now - 60, days=4, targets=TARGETS, projects=("", "shop", "search")):
        recorder.put(outcome)
    recorder.close(60)
    assert recorder.written == COUNT + 1
    return file


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, seeded: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    runtime = getattr(request, "param", "trio")
    providers = alpha, beta = Provider("alpha"), Provider("beta")
    database = f'limits.public_requests_per_second = 0\nanalytics.database = "sqlite:///{seeded}"'
    with hosting(providers) as urls:
        config = configuration((alpha, beta), urls, database)
        with serving(tmp_path_factory.mktemp("console"), runtime, config) as gateway:
            yield World(gateway, alpha)


@pytest.fixture
def world(running: World) -> World:
    """As if nothing had failed yet."""
    running.alpha.knobs = Knobs()
    with running.gateway.client() as client:
        assert client.ask({}, path="/v1/routing/reset").status == 200
    return running


@pytest.fixture
def page(browser: Browser, world: World) -> Iterator[Page]:
    """A visitor who has given the key."""
    with visiting(browser, world.url) as page:
        page.get_by_role("button", name="Enter key").click()
        give_key(page)
        expect(page.get_by_role("button", name="Forget key")).to_be_visible()
        yield page


def rows(page: Page) -> Locator:
    return page.locator("#requests-table tbody tr")


def tile(page: Page, name: str) -> Locator:
    return page.locator(".tile").filter(has=page.get_by_text(name, exact=True)).locator("dd").first


@both
def test_analytics_by_provider_model_and_project(page: Page, world: World) -> None:
    with world.gateway.client() as client:
        for _ in range(3):
            assert client.chat(project_id="fresh", model="alpha-model").status == 200
    go(page, "Analytics")
    expect(tile(page, "Requests")).to_have_text(re.compile(r"^10,\d\d\d$"))
    expect(tile(page, "Success rate")).to_have_text(re.compile(r"^9\d\.\d %$"))
    expect(page.locator("#analytics-body canvas")).to_have_count(4)
    table = page.locator("#breakdown")
    for name in ("alpha", "beta", "gamma", "not served"):
        expect(table.get_by_role("rowheader", name=name)).to_be_visible()
    page.get_by_role("radio", name="Models").check()
    expect(page.get_by_role("heading", name="By model")).to_be_visible()
    expect(table.get_by_role("rowheader", name=MARKUP)).to_be_visible()
    page.get_by_role("radio", name="Projects").check()
    expect(table.get_by_role("rowheader", name="without a project")).to_be_visible()
    page.get_by_role("radio", name="All").check()
    expect(page.get_by_role("heading", name="By day")).to_be_visible()
    page.get_by_role("radio", name="Month").check()
    expect(table.get_by_role("row")).not_to_have_count(0)
    page.locator("#analytics-project").select_option("fresh")
    expect(tile(page, "Requests")).to_have_text(re.compile(r"^[369]$"))  # of one server, or of more
    expect(page.locator("#analytics-body canvas")).to_have_count(4)
    page.locator("#analytics-project").select_option("old")
    expect(tile(page, "Requests")).to_have_text("1")
    expect(tile(page, "Success rate")).to_have_text("\u2013")
    page.get_by_role("radio", name="Day").check()
    expect(page.get_by_text("No requests in this period.")).to_be_visible()
    assert page.locator("main img, main [onerror]").count() == 0


def test_charts_say_their_figures_under_the_pointer(page: Page) -> None:
    go(page, "Analytics")
    chart = page.locator("#chart-requests .u-over")
    box = chart.bounding_box()
    assert box is not None
    tip = chart.locator(".tip")
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    expect(tip).to_contain_text("alpha")
    page.get_by_text("The charts as a table, by day").click()
    expect(page.locator("#daily").get_by_role("rowheader")).not_to_have_count(0)


def test_analytics_that_are_off_say_so(page: Page) -> None:
    def off(route: Route) -> None:
        error = {"message": "No records are kept.", "type": "service_unavailable", "code": "not_available"}
        route.fulfill(status=503, json={"error": error})

    page.route("**/v1/analytics*", off)
    go(page, "Analytics")
    expect(page.get_by_role("alert").get_by_text("No records are kept.")).to_be_visible()


@both
def test_ten_thousand_requests_page_by_page(page: Page) -> None:
    go(page, "Requests")
    expect(rows(page)).to_have_count(100)
    newest = rows(page).first.get_by_role("button").get_attribute("title")
    page.get_by_role("button", name="Older").click()
    expect(page.get_by_text("Page 2", exact=True)).to_be_visible()
    expect(rows(page)).to_have_count(100)
    assert rows(page).first.get_by_role("button").get_attribute("title") < (newest or "")  # type: ignore[operator]
    for number in (3, 4):
        page.get_by_role("button", name="Older").click()
        expect(page.get_by_text(f"Page {number}", exact=True)).to_be_visible()
    expect(rows(page)).to_have_count(100)
    for number in (3, 2, 1):
        page.get_by_role("button", name="Newer").click()
        expect(page.get_by_text(f"Page {number}", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Newer")).to_be_disabled()


def test_requests_are_filtered(page: Page) -> None:
    go(page, "Requests")
    expect(rows(page)).to_have_count(100)
    page.get_by_label("Ending").select_option("client_closed")
    page.get_by_role("button", name="Show").click()
    expect(rows(page).get_by_text("completed")).to_have_count(0)
    expect(rows(page).get_by_text("client closed")).not_to_have_count(0)
    page.locator("#filter-model").fill(MARKUP)
    page.get_by_role("button", name="Show").click()
    expect(rows(page).locator("td:nth-child(4)").filter(has_not_text=MARKUP)).to_have_count(0)
    page.locator("#filter-project").fill("nobody's")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("alert").get_by_text("Invalid value")).to_be_visible()
    page.locator("#filter-project").fill("nobody")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No records match.")).to_be_visible()
    page.get_by_role("button", name="Reset").click()
    expect(rows(page)).to_have_count(100)
    assert page.locator("main img, main [onerror]").count() == 0


@both
def test_an_answer_leads_to_its_record_and_the_decision(page: Page, world: World) -> None:
    world.alpha.knobs = Knobs(status=503)
    go(page, "Playground")
    while world.alpha.served == 0 or page.locator("dd").get_by_text("2", exact=True).count() == 0:
        ask(page, "hello")
        expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
        expect(page.get_by_role("status").filter(has_text="Answer complete")).to_have_count(1)
    link = page.locator(".assistant").last
    link.get_by_text("What the gateway did").click()
    link.get_by_role("link", name="Open its record").click()
    record = page.get_by_role("dialog", name="Request")
    attempts = record.locator(".timeline li")
    expect(attempts).to_have_count(2)
    expect(attempts.nth(0)).to_contain_text("alpha · alpha-model failed")
    expect(attempts.nth(0)).to_contain_text("status 503")
    expect(attempts.nth(1)).to_contain_text("beta · beta-model served")
    candidates = record.get_by_role("region", name="Candidates").get_by_role("row")
    expect(candidates.nth(1)).to_contain_text("chosen")
    expect(candidates.nth(1)).to_contain_text("beta/beta-model")
    expect(candidates.nth(2)).to_contain_text("tried: ")
    page.keyboard.press("Escape")
    expect(record).to_be_hidden()


def test_a_row_opens_by_keyboard_and_gives_the_focus_back(page: Page) -> None:
    go(page, "Requests")
    button = rows(page).nth(2).get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Request")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_news_come_by_themselves(browser: Browser, world: World) -> None:
    with visiting(browser, world.url, clock=True) as page:
        go(page, "Requests")
        give_key(page)
        expect(rows(page)).to_have_count(100)
        with world.gateway.client() as client:
            asked = client.chat(project_id="just-now").headers["x-gateway-request-id"]
            while not client.get(f"/v1/requests?request_id={asked}").json["data"]:
                pass  # written in batches
        page.clock.fast_forward(3500)
        expect(rows(page).first).to_contain_text("just-now")


def test_without_a_key_there_is_nothing_to_see_and_a_way_to_enter_one(browser: Browser, world: World) -> None:
    with visiting(browser, world.url) as page:
        for name in ("Requests", "Analytics"):
            go(page, name)
            give_key(page, "wrong")
            expect(page.get_by_role("alert").get_by_text("Incorrect API key provided.")).to_be_visible()
            page.get_by_role("button", name="Cancel").click()
            expect(page.get_by_role("alert").get_by_text("This needs a key of the gateway.")).to_be_visible()
        page.get_by_role("button", name="Enter key").last.click()
        give_key(page)
        expect(tile(page, "Requests")).to_be_visible()


def test_a_phone_needs_no_scrolling_sideways(browser: Browser, world: World) -> None:
    with visiting(browser, world.url, viewport=PHONE, dark=True) as page:
        go(page, "Requests")
        give_key(page)
        expect(rows(page)).to_have_count(100)
        assert overflow(page) == 0
        rows(page).first.click()
        expect(page.get_by_role("dialog", name="Request")).to_be_visible()
        assert overflow(page) == 0
        page.get_by_role("button", name="Close").click()
        go(page, "Analytics")
        expect(page.locator("#analytics-body canvas")).to_have_count(4)
        assert overflow(page) == 0
