"""Searches as sections of a Markdown page; writing one leaves the rest of the page as it is.

A section stands between two comments that name it, so that it can be found again.
"""

from __future__ import annotations

import re
from pathlib import Path

from common.atomic_files import file_errors, write_text
from common.errors import RunFolderError
from simulations.search.search_file import SearchFile
from simulations.search.statements import (
    NOT_COVERED,
    claim_text,
    command_line,
    fault_lines,
    finding_lines,
    ground_text,
    interval_note,
    own_text,
    point_rows,
)

HEADING = f"""# Searches

How settings were chosen: on the validation part alone, by `fedrec search`
([sweeps.md](sweeps.md#searching)). Each section is written by its command with `--markdown`; text
outside the sections stays. No test figure was computed for any of these points. {NOT_COVERED}
"""


def write_section(page: Path, found: SearchFile) -> None:
    """Write a search's section into a page: in place of its old one, else at the end.

    Args:
        page: the Markdown file; made where there is none.
        found: what the search came to.

    Raises:
        RunFolderError: the page cannot be read or written, or its comments do not match.
    """
    key = section_key(found)
    begin, end = f"<!-- search: {key} -->", f"<!-- end of search: {key} -->"
    section = f"{begin}\n{search_markdown(found)}{end}"
    with file_errors("read", page):
        before = page.read_bytes().decode("utf-8", "replace") if page.exists() else HEADING
    counts = (before.count(begin), before.count(end))
    if counts == (0, 0):
        write_text(page, f"{before.rstrip()}\n\n{section}\n")
        return
    place = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", before, re.DOTALL)
    if counts != (1, 1) or place is None:
        raise RunFolderError(
            f"{page} is damaged: the comments around search {key} do not match; remove both of them"
        )
    write_text(page, before[: place.start()] + section + before[place.end() :])


def section_key(found: SearchFile) -> str:
    """Return what a section is found by: the search's name and ``--set``."""
    return " ".join([found.name, *found.overrides]).replace("--", "- -")


def search_markdown(found: SearchFile) -> str:
    """Return a search's section, without its comments."""
    way = "every combination" if found.grid else "one axis at a time around the scenario's own"
    asked = [f"`{key} = {value}`" for key, value in found.settings.items()]
    ground = f"Scenario `{found.scenario}`, {claim_text(found)}; {ground_text(found)}; {way}."
    parts = [
        f"## {section_key(found)}",
        f"```console\n$ {command_line(found)}\n```",
        found.note,
        f"Targets: {found.targets}" if found.targets else "",
        " ".join([ground, *([f"Set for all: {', '.join(asked)}."] if asked else [])]),
        own_text(found) + ".",
        _table(found),
        "\n".join(f"- {line}" for line in [*finding_lines(found), *fault_lines(found)]),
        f"{interval_note(found)} {NOT_COVERED}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(found: SearchFile) -> str:
    lines = [
        "| point | seeds | HR@10 | NDCG@10 | NDCG@10 less the best | |",
        "|---|---|---|---|---|---|",
    ]
    for row in point_rows(found):
        cells = [cell.replace("|", "\\|") for cell in row]
        if row.verdict == "best":
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
