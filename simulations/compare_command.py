"""``fedrec compare``: runs and sweeps, paired over the same users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from common.atomic_files import write_text
from common.errors import ConfigError
from simulations.command_options import AsJson
from simulations.run_paths import find_compared

if TYPE_CHECKING:
    from simulations.comparison.records import ComparisonFile

EXAMPLES = (
    "Examples:\n\n"
    "fedrec compare first-try second-try\n\n"
    "fedrec compare runs/by-budget --out by-budget.html\n\n"
    "fedrec compare by-budget 'runs/other/points/model.head=multi_lag' --json"
)
PAGE_FILE = Path("comparison.html")


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN…",
            help="Runs, sweeps, or points of a sweep, by name or folder; the first is the "
            "reference.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the page with table and plots goes.")
    ] = PAGE_FILE,
    resamples: Annotated[
        int, typer.Option(min=100, help="Bootstrap resamples of every interval.")
    ] = 2000,
    as_json: AsJson = False,
) -> None:
    """Compare runs over the same users: means, paired differences, a table and plots.

    A sweep stands for its points, each over its seeds. Intervals are over users, and
    over seeds where there are several. Runs of other users or splits are refused.
    """
    folders = find_compared(runs)
    if len(folders) < 2:
        raise ConfigError(["fedrec compare needs two runs or points, got one; name another"])
    from simulations.comparison.comparing import compare as compare_entries
    from simulations.comparison.entries import read_entry
    from simulations.comparison.page import comparison_page

    entries = [read_entry(label, paths) for label, paths in folders.items()]
    found = compare_entries(entries, resamples=resamples)
    page = comparison_page(
        "Comparison",
        f"{len(entries)} entries, paired over the same users; the reference is {found.reference}",
        found.entries,
        resamples=resamples,
        differences=found.differences,
    )
    write_text(out, page)
    _print(found, out, as_json=as_json)


def _print(found: ComparisonFile, page: Path, *, as_json: bool) -> None:
    from simulations.comparison.result_table import (
        differences_table,
        entries_table,
        floors_table,
    )

    if as_json:
        content = {"page": str(page), **found.model_dump(mode="json")}
        print(json.dumps(content, ensure_ascii=False, allow_nan=False))
        return
    console = Console(highlight=False)
    tables = (
        entries_table(found.entries), floors_table(found.entries), differences_table(found)
    )  # fmt: skip
    for table in tables:
        if table is not None:
            console.print(table)
    print(f"page:  {page}")
