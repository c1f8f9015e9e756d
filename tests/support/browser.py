"""A real browser on the console: Debian's Chromium, driven by playwright.

playwright runs an event loop in the thread that uses it, so a browser lives for one module and its tests are plain
functions.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from support.servers import KEY

try:
    from playwright.sync_api import (
        Browser,
        ConsoleMessage,
        Error,
        Locator,
        Page,
        Route,
        ViewportSize,
        expect,
        sync_playwright,
    )
except ModuleNotFoundError:
    pytest.skip("playwright is not installed", allow_module_level=True)

__all__ = [  # what tests need of playwright comes from here, where its absence is dealt with
    "Browser",
    "Locator",
    "Page",
    "Route",
    "ViewportSize",
    "ask",
    "chromium",
    "expect",
    "give_key",
    "go",
    "overflow",
    "visiting",
]

CHROMIUM = shutil.which("chromium") or ""
DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=360, height=740)
PATIENCE = 15_000.0  # milliseconds until what should show is taken for something that never will
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
)
#: What a browser says of any answer that is an error; pages say it better.
_EXPECTED = re.compile(r"Failed to load resource: ")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser; skips where there is none."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(
    browser: Browser,
    url: str,
    *,
    viewport: ViewportSize = DESKTOP,
    dark: bool = False,
    clock: bool = False,
) -> Iterator[Page]:
    """A new visitor on the page at ``url``. Whatever the visit does, at its end: nothing broke the policy, no script
    failed, no dialog came up, and the key has been in no address and is not kept.

    ``clock``: time passes as ever, and ``page.clock.fast_forward`` makes what is due later happen now.
    """
    context = browser.new_context(
        viewport=viewport,
        locale="en-GB",
        timezone_id="UTC",
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    problems: list[str] = []
    addresses: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _EXPECTED.match(message.text):
            problems.append(message.text)

    def failed(error: Error) -> None:
        problems.append(str(error))

    page.on("console", said)
    page.on("pageerror", failed)
    page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: addresses.append(request.url))
    try:
        if clock:
            page.clock.install()
        page.goto(url)
        yield page
        kept: Mapping[str, object] = page.evaluate("({local: {...localStorage}, cookies: document.cookie})")
        addresses.append(page.url)
    finally:
        context.close()
    assert problems == []
    assert not [address for address in addresses if KEY in address]
    assert kept == {"local": {}, "cookies": ""}


def go(page: Page, name: str) -> None:
    """To one of the console's pages, as a person goes there."""
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1, name=name)).to_have_count(1)


def give_key(page: Page, key: str = KEY) -> None:
    """Answer the dialog that asks for the key."""
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def ask(page: Page, text: str) -> None:
    """Write a message in the playground and send it."""
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def overflow(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width
