"""``fedrec bandits``: what exploring earns at a site with new users and new items."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.command_line import stderr_console
from simulations.command_options import AsJson, Quiet
from simulations.progress import progress_bars
from simulations.run_paths import find_run

EXAMPLES = (
    "Examples:\n\n"
    "fedrec simulate distributed --set data.held_out_users=0.6 --run bandits\n\n"
    "fedrec bandits bandits --out docs/bandits.md"
)


def bandits(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run with data.held_out_users above 0.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Markdown page; its plot and logs go into a folder of its name beside it. "
            "Default: bandits.md in the run's folder.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Reported worlds.")] = 20,
    chosen_on: Annotated[
        int, typer.Option(min=1, help="Validation worlds that settings are chosen on.")
    ] = 5,
    lists: Annotated[int, typer.Option(min=1, help="Lists of ten that each user gets.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which users come and go.")] = 40,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Play greedy, epsilon_greedy, ucb and thompson in simulated worlds, and report regret.

    Stopped with Ctrl-C, the same command goes on with the worlds that are left.
    """
    from common.atomic_files import file_errors
    from simulations.bandits.measuring import Experiment, Worlds
    from simulations.bandits.page import write_page
    from simulations.bandits.summary import FIGURES, summarise
    from simulations.bandits.world import WorldPlan

    folder = find_run(run)
    page = out or folder.path / "bandits.md"
    logs = page.with_suffix("")
    with file_errors("make", logs):
        logs.mkdir(parents=True, exist_ok=True)
    worlds = Worlds(WorldPlan(lists=lists, rounds=rounds), chosen_on, seeds)
    with progress_bars(Console(stderr=True, quiet=quiet or as_json)) as bars:
        tasks = {part: bars.add_task(part, total=None) for part in ("validation", "test")}

        def listen(part: str, done: int, total: int) -> None:
            bars.update(tasks[part], completed=done, total=total)

        experiment = Experiment(folder, logs, worlds, listen)
        chosen = list(dict.fromkeys(played.setting for played in experiment.choose()))
        summaries = summarise(experiment.report(chosen))
    write_page(page, folder.path.name, worlds, summaries)
    if as_json:
        print(json.dumps([summary.record() for summary in summaries]))
        return
    table = Table("policy", *(FIGURES[name] for name in ("reward", "coverage", "new_taken")))
    for summary in summaries:
        found = summary.differences or summary.means
        sign = "+" if summary.differences else ""
        cells = []
        for name in ("reward", "coverage", "new_taken"):
            mean, low, high = (f"{value:{sign}.4g}" for value in astuple(found[name]))
            cells.append(f"{mean} [{low}, {high}]")
        table.add_row(summary.name, *cells)
    console = Console(highlight=False)
    console.print(table)
    console.print("greedy: means; others: differences from greedy; 95% intervals over worlds")
    stderr_console().print(f"page: {page}", soft_wrap=True)
