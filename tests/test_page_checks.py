"""Each check of a page finds its fault, and a sound page has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import Browser
from tests.page_checks import assert_page_is_sound

pytestmark = pytest.mark.e2e

HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>'
    '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
    "<body><h1>A page</h1>"
)
PLOT = (
    '<figure><figcaption>A plot</figcaption><svg viewBox="0 0 300 100" width="300">'
    "<title>t</title><desc>d</desc>{}</svg></figure>"
)
MARK = '<circle class="mark" cx="50" cy="50" r="5" style="fill:gray"/>'
GOOD = HEAD + "<p>Words.</p>" + PLOT.format(MARK)
TEXT = '<text x="{}" y="30" style="fill:gray">a word</text>'

FAULTS = {
    "console": ("<script>console.error('broken')</script>", "console: .*broken"),
    "network": ('<link rel="stylesheet" href="http://192.0.2.1/a.css">', "asks for http://192"),
    "wide": ('<p style="width:2000px">wide</p>', "scrolls sideways: 2[0-9]+ px"),
    "keyboard": (
        '<div style="overflow-x:auto;width:90px"><p style="width:200px">w</p></div>',
        "not by keyboard",
    ),
    "empty plot": (PLOT.format(""), "plot without marks"),
    "flat mark": (PLOT.format('<circle class="mark" r="0"/>'), "mark without size"),
    "mark outside": (
        PLOT.format(MARK + '<rect class="mark" style="fill:gray" x="-90" width="9" height="9"/>'),
        "mark outside",
    ),
    "no size": (PLOT.replace("300", "3", 2).format(MARK), "plot without size"),
    "cut text": (PLOT.format(MARK + TEXT.format(280)), "text outside its plot"),
    "overlap": (PLOT.format(MARK + TEXT.format(90) + TEXT.format(99)), "texts overlap"),
    "faint text": ('<p style="color:#999;background:#fff">faint</p>', "text has contrast 2.85"),
    "faint mark": (PLOT.format(MARK.replace("gray", "rgb(128 128 128 / .2)")), "mark has contrast"),
    "faint in dark": ('<p style="color:#222">ink</p>', "px, dark: text has contrast"),
    "small text": ('<p style="font-size:8px">small</p>', "text of 8.0 px"),
    "skipped level": ("<h3>deep</h3>", "heading skips a level"),
    "second h1": ("<h1>again</h1>", "needs one h1"),
    "same id": ("<p id=a>1</p><p id=a>2</p>", "two elements have the id a"),
    "lost label": ("<p aria-labelledby=nobody>1</p>", "aria-labelledby names nothing"),
    "table": ("<table><tr><th>head</th></tr></table>", "table head without scope"),
    "caption": (PLOT.replace("A plot", "").format(MARK), "figure without caption"),
    "description": (PLOT.replace("<desc>d</desc>", "").format(MARK), "without title or desc"),
    "in details": (
        "<details><summary>s</summary><p style='width:2000px'>w</p></details>",
        "opened: scrolls sideways",
    ),
    "paper": ('<p style="height:90000px">long</p>', "pages, more than"),
}


def url_of(folder: Path, content: str) -> str:
    page = folder / "page.html"
    page.write_text(content, encoding="utf-8")
    return page.as_uri()


def test_a_sound_page_has_no_fault(browser: Browser, tmp_path: Path) -> None:
    assert_page_is_sound(browser, url_of(tmp_path, GOOD))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(browser: Browser, tmp_path: Path, fault: str) -> None:
    content, told = FAULTS[fault]
    with pytest.raises(AssertionError, match=told):
        assert_page_is_sound(browser, url_of(tmp_path, GOOD + content))
