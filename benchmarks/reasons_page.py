"""The tables of docs/reasons.md from docs/reasons.jsonl: ``python -m benchmarks.reasons_page``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.small_page import renewed
from common.atomic_files import read_json_lines, write_text

PAGE, RECORDS = Path("docs/reasons.md"), Path("docs/reasons.jsonl")
_COLUMNS = ("spearman", "same_first", "fall_1", "fall_3", "fall_3_less_occlusion", "moved_3")


def main() -> None:
    lines, page = read_json_lines(RECORDS), PAGE.read_text(encoding="utf-8")
    for of in ("history", "words"):
        page = renewed(page, of, table([line for line in lines if line["of"] == of]))
    write_text(PAGE, page)


def table(lines: list[dict[str, Any]]) -> list[str]:
    head = (
        "| run (users) | way | Spearman with occlusion | same first | fall without 1 | "
        "fall without 3 | less occlusion's | moved by 3 |"
    )
    return [head, "|---" * 8 + "|", *map(_row, lines)]


def _row(line: dict[str, Any]) -> str:
    figures = [_figure(line[name]) for name in _COLUMNS]
    cells = [f"{line['run']} ({line['users']})", line["way"], *figures]
    return f"| {' | '.join(cells)} |"


def _figure(found: list[float]) -> str:
    mean, low, high = found
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
