"""What does the LoRA adapter add over the frozen BERT, without DP and at each ε?

Run it by ``python -m benchmarks.adapter_gain [--out FOLDER] [--seeds N] [--write PAGE]``. Two
comparisons: LoRA alone (no trained head) against the same model before training, which is
zero-shot text similarity with the same released popularity; and head with LoRA against the
same head on the frozen BERT. Each is made on known and on cold items, on MovieLens-100K (short
titles) and on Debian's package index (long descriptions). A run that is in FOLDER is not run
again, so that the study can be stopped and goes on; ``--stage validation`` is for choosing
settings (``--set section.key=value``, in a folder of its own), test is to be looked at once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.adapter_gain.page import renew
from benchmarks.adapter_gain.plan import ARMS, DATASETS, EPSILONS, Cell, cells
from benchmarks.adapter_gain.running import Runner
from benchmarks.adapter_gain.tables import markdown, runs
from common.errors import FedrecError

COMMAND = "python -m benchmarks.adapter_gain"


def main() -> int:
    """Run what is missing, print the tables; 0 on success."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    try:
        found = _found(arguments)
        tables = f"{markdown(found)}\n\n{runs(found)}"
        print(tables)
        if arguments.write:
            renew(arguments.write, COMMAND, tables)
    except FedrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _found(arguments: argparse.Namespace) -> dict[Cell, dict[str, Any]]:
    runner = Runner(arguments.stage, no_runs=arguments.no_runs)
    found: dict[Cell, dict[str, Any]] = {}
    for cell in cells(arguments.data, arguments.epsilon, arguments.arm, arguments.seeds):
        figures = runner.figures(cell, cell.config(arguments.set), arguments.out / cell.name)
        if figures is not None:
            found[cell] = figures
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="adapter_gain", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/adapter-gain"))
    parser.add_argument("--data", nargs="+", default=DATASETS, choices=DATASETS)
    parser.add_argument("--epsilon", nargs="+", type=float, default=EPSILONS)
    parser.add_argument("--arm", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each kind")
    parser.add_argument("--stage", default="test", choices=("validation", "test"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-runs", action="store_true", help="tables of what was run already")
    parser.add_argument("--write", type=Path, help="page whose marked tables are renewed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
