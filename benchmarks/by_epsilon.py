"""The command line of benchmarks that keep JSON lines for each ε and seed, and can be cut short."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.adapter_gain.page import renew
from common.atomic_files import write_text

Line = dict[str, Any]


def fill(
    description: str | None,
    epsilons: Iterable[str],
    measured: Callable[[str, int], list[Line]],
    table: Callable[[list[Line]], str],
    mark: str,
) -> None:
    """``FILE [--seeds N] [--page PAGE]``: measures what FILE lacks, and renews the page's table.

    Args:
        description: of the command.
        epsilons: as the lines name them, under `epsilon`.
        measured: the lines of one ε and seed; each says both.
        table: of all lines.
        mark: of the table in the page.
    """
    asked = argparse.ArgumentParser(description=description)
    asked.add_argument("file", type=Path)
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--page", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    known = given.file.read_text(encoding="utf-8").splitlines() if given.file.is_file() else []
    lines = [json.loads(line) for line in known]
    done = {(line["epsilon"], line["seed"]) for line in lines}
    for epsilon in epsilons:
        for seed in range(given.seeds):
            if (epsilon, seed) not in done:
                lines += measured(epsilon, seed)
                write_text(given.file, "".join(json.dumps(line) + "\n" for line in lines))
    if given.page is not None:
        renew(given.page, mark, table(lines))
