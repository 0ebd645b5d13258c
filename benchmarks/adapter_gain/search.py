"""With which settings does LoRA alone add most? A search on validation, and its table.

Run it by ``python -m benchmarks.adapter_gain.search [--out FOLDER] [--write PAGE]``. It runs the
points of ``points.py`` that are not in FOLDER yet, and ranks validation's items alone: each user's
second-last item, and a set of cold items that the test does not see. On each data set and at
each ε the point with the largest gain is marked: the sum, over the three rankings, of LoRA's
difference to its own start in halves of its interval's width. The rule was
written before any point but the first had been measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.adapter_gain.page import renew
from benchmarks.adapter_gain.plan import DATASETS
from benchmarks.adapter_gain.points import POINTS
from benchmarks.adapter_gain.running import Runner
from benchmarks.adapter_gain.tables import METRIC, WHERE, budget_text, interval_text
from benchmarks.adapter_gain.trials import Trial, trials
from common.errors import FedrecError
from simulations.evaluation.comparison import two_level_mean
from simulations.evaluation.intervals import Interval

COMMAND = "python -m benchmarks.adapter_gain.search"
EPSILONS = (float("inf"), 8.0)
HEADER = (
    "| data | ε | point: settings | parameters | known items | cold among all | cold among cold |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def main() -> int:
    """Run what is missing, print the table; 0 on success."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    runner = Runner("validation", no_runs=arguments.no_runs)
    found: dict[Trial, Mapping[str, Any]] = {}
    try:
        for trial in trials(arguments.data, arguments.epsilon, arguments.point):
            figures = runner.figures(trial.cell, trial.config(), arguments.out / trial.name)
            if figures is not None:
                found[trial] = figures
                print("\n".join(markdown({trial: figures}).splitlines()[2:]), file=sys.stderr)
        print(markdown(found))
        if arguments.write:
            renew(arguments.write, COMMAND, markdown(found))
    except FedrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def markdown(found: Mapping[Trial, Mapping[str, Any]]) -> str:
    """The table of all points, the best of each data set and ε in bold."""
    groups = dict.fromkeys((trial.cell.dataset, trial.cell.epsilon) for trial in found)
    rows = []
    for group in groups:
        points = {t: differences(f) for t, f in found.items() if _group(t) == group}
        best = max(points, key=lambda trial: gain(points[trial]))
        for trial, each in points.items():
            name = f"**{trial.point}**" if trial == best and len(points) > 1 else trial.point
            settings = ", ".join(f"`{each}`" for each in trial.settings) or "the first settings"
            shown = [
                trial.cell.dataset,
                budget_text(trial.cell.epsilon),
                f"{name}: {settings}",
                f"{found[trial]['parameters']:,}",
                *(interval_text(each[where]) for where in WHERE),
            ]
            rows.append(f"| {' | '.join(shown)} |")
    return "\n".join([*HEADER, *rows])


def differences(figures: Mapping[str, Any]) -> dict[str, Interval]:
    """What training added to the run's own start, by what is ranked."""
    return {
        where: two_level_mean(
            np.array([figures["run"][where][METRIC]]) - np.array([figures["start"][where][METRIC]])
        )
        for where in WHERE
    }


def gain(points: Mapping[str, Interval]) -> float:
    """Σ over rankings of the difference in halves of its interval's width; 0 where that is 0."""
    widths = {where: (each.high - each.low) / 2 for where, each in points.items()}
    return sum(points[where].mean / width for where, width in widths.items() if width > 0)


def _group(trial: Trial) -> tuple[str, float]:
    return trial.cell.dataset, trial.cell.epsilon


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="adapter_gain.search", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/adapter-gain-search"))
    parser.add_argument("--data", nargs="+", default=DATASETS, choices=DATASETS)
    parser.add_argument("--epsilon", nargs="+", type=float, default=EPSILONS)
    parser.add_argument("--point", nargs="+", default=POINTS, choices=POINTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-runs", action="store_true", help="table of what was run already")
    parser.add_argument("--write", type=Path, help="page whose marked table is renewed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
