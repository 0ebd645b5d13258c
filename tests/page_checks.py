"""What every page of this project has to be: sound at two widths, in two schemes, on paper."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urldefrag, urlsplit

from tests.browser import Browser, Scheme, page_count

WIDTHS = (390, 1440)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
PAPER_WIDTH = 688  # A4 between margins of 14 mm, in CSS pixels
LEAST_TEXT, LEAST_TEXT_ON_PAPER = 10, 9  # CSS pixels
FAULTS = Path(__file__).with_name("page_faults.js").read_text("utf-8")
OPEN_ALL = "for (const e of document.querySelectorAll('details')) e.open = true"


def assert_page_is_sound(browser: Browser, url: str, *, most_pages: int = 20) -> None:
    """Open a page, and look at it at both widths in both schemes, closed and opened up.

    It has to log nothing, ask no other host for anything (a file asks for nothing at all),
    never scroll sideways, draw every plot with its texts inside and apart, meet WCAG AA
    contrast by its computed colours, be usable by keyboard and screen reader, and print.

    Args:
        browser: from the fixture `browser`.
        url: a `file:` address, or `http:` of this machine.
        most_pages: how many pages of paper it may fill.

    Raises:
        AssertionError: with every fault found, one a line.
    """
    browser.open(url)
    faults = [f"console: {line}" for line in browser.console()]
    faults += [f"asks for {found}" for found in browser.requests() if not _is_own(found, url)]
    browser.show(PAPER_WIDTH, "dark", "print")
    faults += [f"paper: {fault}" for fault in browser.run(FAULTS, LEAST_TEXT_ON_PAPER)]
    pages = page_count(browser.pdf())
    if not 1 <= pages <= most_pages:
        faults.append(f"paper: {pages} pages, more than {most_pages}")
    for opened in (False, True):
        if opened:
            browser.run(OPEN_ALL)
        for width in WIDTHS:
            for scheme in SCHEMES:
                browser.show(width, scheme)
                where = f"{width} px, {scheme}{', opened' if opened else ''}"
                faults += [f"{where}: {fault}" for fault in browser.run(FAULTS, LEAST_TEXT)]
    # The browser tells of a line some time after it was written: on a busy machine, only now.
    faults += [f"console: {line}" for line in browser.console()]
    assert not faults, "\n".join([f"{url} has {len(faults)} faults:", *faults[:40]])


def _is_own(found: str, url: str) -> bool:
    """Whether a request is for the page itself, or for its own server."""
    if urlsplit(url).scheme == "file":
        return urldefrag(found).url == urldefrag(url).url
    return urlsplit(found)[:2] == urlsplit(url)[:2]
