"""From the lines of results to a table with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.warm_start.study import METRIC, ROUNDS
from simulations.evaluation.comparison import two_level_mean
from simulations.evaluation.intervals import Interval


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """A row for each pair, ε and number of rounds: cold, warm, warm less cold with its interval."""
    rows = [
        "| pair | ε of each run | seeds | rounds | cold | warm | warm − cold [95%] | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, float | None], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["pair"], line["epsilon"]), []).append(line)
    for (pair, epsilon), group in groups.items():
        budget = "∞" if epsilon is None else f"{epsilon:g}"
        for count in (0, *ROUNDS):
            cold, warm = (
                np.array([line[METRIC][kind][str(count)] for line in group])
                for kind in ("cold", "warm")
            )  # [seeds, users] each
            gain = two_level_mean(warm - cold)
            rows.append(
                f"| {pair} | {budget} | {len(group)} | {count} | {cold.mean():.4f} | "
                f"{warm.mean():.4f} | {_shown(gain)} | {_word(gain)} |"
            )
    return "\n".join(rows)


def _shown(gain: Interval) -> str:
    return f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def _word(gain: Interval) -> str:
    if gain.low > 0:
        return "gains"
    return "loses" if gain.high < 0 else "not distinguishable"
