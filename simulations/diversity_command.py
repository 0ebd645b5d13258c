"""``fedrec diversity``: what variety of a finished run's lists costs in accuracy."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from common.command_line import stderr_console
from simulations.command_options import AsJson
from simulations.run_paths import find_run

EXAMPLES = (
    "Examples:\n\n"
    "fedrec diversity runs/demo-…    (the validation part, to choose a strength)\n\n"
    "fedrec diversity runs/demo-… --stage test --out docs/diversity.md"
)


def diversity(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or its folder.")],
    stage: Annotated[
        Literal["validation", "test"],
        typer.Option(help="Strengths are chosen on validation; test is for the final figures."),
    ] = "validation",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a Markdown page with plots.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure accuracy against variety: MMR, calibrated genres, popularity, exposure caps.

    The curves go into the run's `diversity.json` and report.
    """
    folder = find_run(run)
    console = stderr_console()
    with console.status("scoring every user") as status:
        from simulations.diversity.measuring import measure_run
        from simulations.diversity.page import records_of, write_page
        from simulations.report import build_report
        from simulations.report.diversity_file import DiversityFile
        from simulations.report.figures_lists import WAYS
        from simulations.report.run_files import write_diversity

        points = measure_run(folder, stage, status.update)
        write_diversity(folder.path, DiversityFile(stage=stage, points=records_of(points)))
        report = build_report(folder.path)
    if out is not None:
        write_page(out, f"Run {folder.path.name}, {stage} part", points)
    if as_json:
        print(json.dumps([asdict(point) for point in points]))
        return
    table = Table("way", "strength", "NDCG@10", "difference", "distance", "miscal.", "coverage")
    for point in points:
        low, high = point.difference.low, point.difference.high
        table.add_row(
            WAYS[point.method],
            f"{point.strength:g}",
            f"{point.ndcg.mean:.4f}",
            f"{point.difference.mean:+.4f} [{low:+.4f}, {high:+.4f}]",
            f"{point.distance.mean:.3f}",
            f"{point.miscalibration.mean:.3f}",
            f"{point.coverage.mean:.3f}",
        )
    Console(highlight=False).print(table)
    print(f"report: {report}")
    if out is not None:
        print(f"page: {out}")
