"""What a search shows at its end, on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from simulations.search.search_file import SearchFile
from simulations.search.statements import (
    NOT_COVERED,
    claim_text,
    fault_lines,
    finding_lines,
    ground_text,
    interval_note,
    own_text,
    point_rows,
)


def show_search(console: Console, found: SearchFile) -> None:
    """Print the points, the best first, and what came out."""
    names = Column("", overflow="fold", min_width=20)
    table = Table(
        names, "HR@10", "NDCG@10", "less the best",
        caption=f"{claim_text(found)}; {ground_text(found)}",
    )  # fmt: skip
    for row in point_rows(found):
        stands = f"{row.less_best} {row.verdict}".strip()
        cells = (row.label, row.hr_10, row.ndcg_10, stands)
        table.add_row(*cells, style="bold" if row.verdict == "best" else None)
    console.print(table)
    lines = [own_text(found), *finding_lines(found), *fault_lines(found)]
    for line in [*lines, interval_note(found), NOT_COVERED]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
