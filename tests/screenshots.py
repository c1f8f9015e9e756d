"""``make screenshots``: the console's pages as pictures, of a gateway with simulated providers and a week's records."""

import sys
import tempfile
import time
from pathlib import Path

from msgspec import structs

from gwproto.testing import Knobs
from gwproto_ops.records.recorder import Recorder
from support.browser import Page, ViewportSize, ask, chromium, expect, give_key, go, visiting
from support.servers import GatewayProcess, Provider, configuration, hosting, serving
from support.traffic import traffic

RECORDS = 3000
PROJECTS = ("", "search", "support-chat", "support-chat", "reports")
VARIANTS = {
    "light": (ViewportSize(width=1280, height=800), False),
    "dark": (ViewportSize(width=1280, height=800), True),
    "phone": (ViewportSize(width=390, height=844), False),
}


def main(folder: Path) -> None:
    """Write ``console-<page>-<variant>.png`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    slow = Knobs(latency=0.15, latency_spread=0.3, pace=0.01)
    limited = structs.replace(slow, requests_per_minute=60)
    providers = (
        Provider("demo-mistral", Knobs(status=503), ("mistral-demo",)),
        Provider("demo-openai", limited, ("gpt-demo", "gpt-mini-demo")),
        Provider("demo-gemini", Knobs(latency=0.2, requests_per_minute=60), ("gemini-3-demo",), "gemini"),
        Provider("demo-anthropic", slow, ("claude-demo",), "anthropic"),
    )
    with tempfile.TemporaryDirectory() as scratch, hosting(providers) as urls:
        database = Path(scratch) / "records.db"
        _seed(database, providers)
        more = f'limits.public_requests_per_second = 0\nanalytics.database = "sqlite:///{database}"'
        with serving(Path(scratch), "trio", configuration(providers, urls, more)) as gateway:
            _talk(gateway)
            with chromium() as browser:
                for variant, (viewport, dark) in VARIANTS.items():
                    with visiting(browser, f"{gateway.url}/", viewport=viewport, dark=dark) as page:
                        _pictures(page, folder, variant)


def _seed(database: Path, providers: tuple[Provider, ...]) -> None:
    targets = [(provider.name, model) for provider in providers for model in provider.models]
    recorder = Recorder(f"sqlite:///{database}", limit=2 * RECORDS)
    for outcome in traffic(RECORDS, time.time() - 60, days=6.5, targets=targets, projects=PROJECTS, seed=7):
        recorder.put(outcome)
    recorder.close(60)


def _talk(gateway: GatewayProcess) -> None:
    """Enough for every provider to have shown how it is."""
    with gateway.client() as client:
        for number in range(30):
            client.chat("Hello", project_id=PROJECTS[number % 5] or None, stream=True)


def _pictures(page: Page, folder: Path, variant: str) -> None:
    def picture(name: str) -> None:
        page.screenshot(path=folder / f"console-{name}-{variant}.png")

    expect(page.get_by_text("3 of 4 providers take requests.")).to_be_visible()
    picture("status")
    go(page, "Playground")
    ask(page, "Which rivers meet in Passau?")
    give_key(page)
    answers = page.locator(".assistant")
    expect(answers.first).to_contain_text(" tokens")
    ask(page, "And which of them is the longest?")
    expect(answers.nth(1)).to_contain_text(" tokens")
    answers.nth(1).get_by_text("What the gateway did").click()
    page.get_by_label("Message", exact=True).fill("Thank you. One more question")
    picture("playground")
    go(page, "Analytics")
    expect(page.locator("#analytics-body canvas")).to_have_count(4)
    picture("analytics")
    go(page, "Requests")
    rows = page.locator("#requests-table tbody tr")
    expect(rows).to_have_count(100)
    if variant != "light":  # a record beside the list of them
        retried = rows.filter(has=page.locator("td:nth-child(5)").get_by_text("2", exact=True))
        retried.filter(has_text="completed").first.get_by_role("button").click()
        expect(page.get_by_role("dialog", name="Request")).to_be_visible()
    picture("requests")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../docs/images"))
