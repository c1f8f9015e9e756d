"""The console's files: what is shipped, and what no page may do."""

import json
import re
from pathlib import Path

import pytest

from gwproto.queries import PageQuery
from gwproto_ops import console

FOLDER = Path(console.__file__).parent / "console"
OWN = sorted(file for file in FOLDER.iterdir() if not file.name.startswith("uplot"))


def page(name: str) -> tuple[int, dict[bytes, bytes], bytes]:
    status, headers, body = console.answer(json.dumps({"file": name}))
    return status, dict(headers), body


def test_every_file_is_answered_from_memory() -> None:
    for file in FOLDER.iterdir():
        status, headers, body = page(file.name)
        assert (status, body) == (200, file.read_bytes())
        assert headers[b"content-length"] == b"%d" % len(body)
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"referrer-policy"] == b"no-referrer"
        assert headers[b"cache-control"] == b"no-cache"
        assert re.fullmatch(PageQuery.__annotations__["file"].__metadata__[0].pattern, file.name)


@pytest.mark.parametrize("name", ["index.htm", "console.py", "uplot.js.map", "index.html.orig"])
def test_what_is_not_shipped_is_not_found(name: str) -> None:
    status, headers, body = page(name)
    assert status == 404
    assert headers[b"content-type"] == b"application/json"
    assert json.loads(body)["error"]["code"] == "unknown_url"


def test_the_policy_lets_nothing_in() -> None:
    _, headers, body = page("index.html")
    policy = headers[b"content-security-policy"]
    assert policy.startswith(b"default-src 'none'; script-src 'self'; style-src 'self';")
    assert b"unsafe" not in policy
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    for inline in (rb"<style", rb"\sstyle=", rb"<script>", rb"\son\w+=", rb"https?://", rb"javascript:"):
        assert re.search(inline, body) is None, inline


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.js")), ids=lambda file: file.name)
def test_text_never_becomes_markup_or_code(file: Path) -> None:
    source = file.read_text("utf-8")
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "createContextualFragment",
        "DOMParser",
        "srcdoc",
        "eval(",
        "new Function",
        "javascript:",
    ):
        assert sink not in source, sink


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_the_key_has_one_place_to_be_kept_and_nothing_comes_from_elsewhere(file: Path) -> None:
    source = file.read_text("utf-8")
    assert re.search(r"localStorage[.\[]\w|document\.cookie", source) is None
    assert ("sessionStorage." in source) is (file.name == "api.js")
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", source) == []


def test_what_the_pages_ask_for_is_there() -> None:
    for file in OWN:
        source = file.read_text("utf-8")
        wanted = re.findall(r'(?:from |import |import\()"\./([^"]+)"', source)
        wanted += re.findall(r'(?:src|href)="console/([^"]+)"', source)
        for name in wanted:
            assert page(name)[0] == 200, (file.name, name)


def test_every_id_that_a_script_asks_for_is_in_the_page() -> None:
    ids = re.findall(r'\bid="([^"]+)"', (FOLDER / "index.html").read_text("utf-8"))
    assert len(ids) == len(set(ids))
    for file in FOLDER.glob("*.js"):
        if file in OWN:
            assert set(re.findall(r'byId\("([^"]+)"\)', file.read_text("utf-8"))) <= set(ids), file.name


def test_fields_have_labels_and_buttons_have_types() -> None:
    body = (FOLDER / "index.html").read_text("utf-8")
    labelled = set(re.findall(r'<label[^>]* for="([^"]+)"', body))
    for field in re.findall(r"<(?:input|select|textarea)\b[^>]*>", body):
        if 'type="checkbox"' in field or 'type="radio"' in field:
            continue  # stands in its label
        name = re.search(r'\bid="([^"]+)"', field)
        assert name is not None
        assert name[1] in labelled, field
    for button in re.findall(r"<button\b[^>]*>", body):
        assert ' type="' in button, button


def colours(scheme: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read_in_both_schemes(dark: bool) -> None:
    light, _, rest = (
        (FOLDER / "style.css").read_text("utf-8").partition("@media (prefers-color-scheme: dark)")
    )
    scheme = colours(rest.partition("*, *::before")[0] if dark else light)
    for ground in ("ground", "panel", "sunk"):
        for text in ("ink", "muted", "accent"):
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
    for text in ("good", "warn", "bad", "calm", "accent"):
        assert contrast(scheme[text], scheme[f"{text}-soft"]) >= 4.5, text
    assert contrast(scheme["ink"], scheme["plain-soft"]) >= 4.5
    assert contrast(scheme["on-accent"], scheme["accent"]) >= 4.5
    graphics = ["edge", *[f"line-{number}" for number in range(1, 13)]]
    assert [name for name in graphics if contrast(scheme[name], scheme["panel"]) < 3] == []


def test_the_license_of_what_is_not_ours_is_shipped() -> None:
    assert b"Leon Sorokin" in page("uplot.license.txt")[2]
