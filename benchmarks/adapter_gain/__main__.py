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

from benchmarks.adapter_gain.measuring import Bench, measure, train
from benchmarks.adapter_gain.plan import ARMS, COLD_SHARE, DATASETS, EPSILONS, Cell, cells
from benchmarks.adapter_gain.tables import markdown, runs
from common.atomic_files import write_text
from common.errors import ConfigError, FedrecError
from simulations.datasets import load_dataset

BEGIN, END = "<!-- >>> python -m benchmarks.adapter_gain -->", "<!-- <<< -->"


def main() -> int:
    """Run what is missing, print the tables; 0 on success."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    try:
        found = _found(arguments)
        tables = f"{markdown(found)}\n\n{runs(found)}"
        print(tables)
        if arguments.write:
            write_text(arguments.write, with_tables(arguments.write.read_text("utf-8"), tables))
    except FedrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def with_tables(page: str, tables: str) -> str:
    """`page` with what stands between its two marks renewed.

    Raises:
        ConfigError: the marks do not stand there once each, in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in after:
        raise ConfigError([f"the page must have the lines {BEGIN!r} and {END!r} once each"])
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def _found(arguments: argparse.Namespace) -> dict[Cell, dict[str, Any]]:
    found: dict[Cell, dict[str, Any]] = {}
    benches: dict[str, Bench] = {}
    for cell in cells(arguments.data, arguments.epsilon, arguments.arm, arguments.seeds):
        path = arguments.out / cell.name
        is_done = (path / f"gain-{arguments.stage}.json").is_file()
        if arguments.no_runs and not is_done:
            continue
        config = cell.config(arguments.set)
        if cell.dataset not in benches:
            whole = load_dataset(config.data, notify=lambda line: print(line, file=sys.stderr))
            benches[cell.dataset] = Bench(whole, config, COLD_SHARE)
        if not is_done:
            print(f"run {cell.name}", file=sys.stderr, flush=True)
            train(benches[cell.dataset], config, path)
        found[cell] = measure(benches[cell.dataset], path, arguments.stage)
        if found[cell]["config_sha256"] != config.sha256():
            raise ConfigError([f"{path} was run with other settings; use another --out"])
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
