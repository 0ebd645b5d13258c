"""The part of a page that a command writes: what stands between its two marks."""

from __future__ import annotations

from pathlib import Path

from common.atomic_files import file_errors, write_text
from common.errors import ConfigError

END = "<!-- <<< -->"


def begin_mark(command: str) -> str:
    """The line above what `command` writes."""
    return f"<!-- >>> {command} -->"


def renew(page: Path, command: str, text: str) -> None:
    """Write `text` between the marks of `command` in the file `page`.

    Raises:
        RunFolderError: the page cannot be read or written.
        ConfigError: the marks are not there once.
    """
    with file_errors("read", page):
        before = page.read_text("utf-8")
    write_text(page, with_text(before, command, text))


def with_text(page: str, command: str, text: str) -> str:
    """`page` with what stands between the marks of `command` renewed.

    Raises:
        ConfigError: the first mark does not stand there once, or no end follows it.
    """
    begin = begin_mark(command)
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not (found and end) or begin in after:
        raise ConfigError([f"the page must have the line {begin!r} once, and {END!r} after it"])
    return f"{before}{begin}\n{text}\n{END}{after}"
