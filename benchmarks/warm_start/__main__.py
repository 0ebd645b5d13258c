"""Does a warm start from another run help, and for how many rounds?

Run it by ``PYTHONPATH=. python -m benchmarks.warm_start [--out FOLDER] [--seeds N]``. A source is
trained for four rounds; then the same run on other people's data is made from its adapter and
from zero, for one, two and four rounds, each within the whole ε (fewer rounds have less noise
each). The learning rate is chosen by the validation of a cold run, which favours cold. A run that
is in FOLDER is not made again, a line in RESULTS not computed again. ``--write PAGE`` renews the
page's table.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.adapter_gain.page import renew
from benchmarks.warm_start.page import table
from benchmarks.warm_start.study import PAIRS, study
from common.atomic_files import append_json_lines
from common.errors import FedrecError

COMMAND = "python -m benchmarks.warm_start"


def main() -> int:
    """Run what is missing, print the table; 0 on success."""
    asked = _arguments()
    torch.set_num_threads(1)
    try:
        lines = _lines(asked)
        text = table(lines)
        print(text)
        if asked.write:
            renew(asked.write, COMMAND, text)
    except FedrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _lines(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines on record, in the order of the table, after what is missing was added."""
    known = _read(asked.results)
    pairs = {pair.name: pair for pair in PAIRS}
    for seed in range(0 if asked.no_runs else asked.seeds):
        for name in asked.pair:
            for epsilon in asked.epsilon:
                place = (name, None if epsilon == float("inf") else epsilon, seed)
                if place not in known:
                    known[place] = study(pairs[name], epsilon, seed, asked.out)
                    append_json_lines(asked.results, [known[place]])
    order = list(pairs)
    return [
        known[place]
        for place in sorted(known, key=lambda p: (order.index(p[0]), p[1] is not None, p[1:]))
    ]


def _read(path: Path) -> dict[tuple[str, float | None, int], dict[str, Any]]:
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {(line["pair"], line["epsilon"], line["seed"]): line for line in lines}


def _arguments() -> argparse.Namespace:
    names = [pair.name for pair in PAIRS]
    parser = argparse.ArgumentParser(prog="warm_start", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/warm-start"))
    parser.add_argument("--results", type=Path, default=Path("docs/warm-start.jsonl"))
    parser.add_argument("--pair", nargs="+", default=names, choices=names)
    parser.add_argument("--epsilon", nargs="+", type=float, default=[float("inf"), 8.0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--no-runs", action="store_true", help="the table of what is on record")
    parser.add_argument("--write", type=Path, help="page whose marked table is renewed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
