"""The study's tables: paired differences over users, for cold items over items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.adapter_gain.plan import Cell
from simulations.evaluation.comparison import two_level_difference, two_level_mean
from simulations.evaluation.intervals import Interval

METRIC = "ndcg_10"
WHERE = {
    "known": "known items, over users",
    "cold": "cold items among all, over items",
    "cold_only": "cold items among cold ones, over items",
}
COMPARED = {
    "no head": "LoRA alone − the same before training",
    "same head": "head and LoRA − head alone",
}
HEADER = (
    "| data | what is ranked | ε | adapter adds | frozen | with LoRA | ΔNDCG@10 [95%] | verdict |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
Found = Mapping[Cell, Mapping[str, Any]]


def markdown(found: Found) -> str:
    """The table of all comparisons that `found` holds both sides of."""
    groups = sorted({(cell.dataset, cell.epsilon) for cell in found}, reverse=True)
    rows = [
        row
        for dataset, epsilon in groups
        for where in WHERE
        for comparison in COMPARED
        for row in _row(found, dataset, epsilon, where, comparison)
    ]
    return "\n".join([*HEADER, *rows])


def verdict(difference: Interval) -> str:
    """What the interval allows to say, and no more."""
    if difference.low > 0:
        return "adds"
    return "costs" if difference.high < 0 else "not distinguishable"


def budget_text(epsilon: float) -> str:
    """ε as the tables show it."""
    return "∞" if np.isinf(epsilon) else f"{epsilon:g}"


def interval_text(each: Interval) -> str:
    """A difference and its interval."""
    return f"{each.mean:+.4f} [{each.low:+.4f}, {each.high:+.4f}]"


def _row(found: Found, dataset: str, epsilon: float, where: str, comparison: str) -> list[str]:
    def table(arm: str, side: str) -> NDArray[np.float64] | None:
        cells = sorted(
            (c for c in found if (c.dataset, c.epsilon, c.arm) == (dataset, epsilon, arm)),
            key=lambda cell: cell.seed,
        )
        return np.array([found[c][side][where][METRIC] for c in cells]) if cells else None

    if comparison == "no head":
        frozen, adapted = table("lora", "start"), table("lora", "run")
    else:
        frozen, adapted = table("head", "run"), table("both", "run")
    if frozen is None or adapted is None:
        return []
    if comparison == "no head":  # run by run: both sides have the same released popularity
        difference = two_level_mean(adapted - frozen)
    else:
        difference = two_level_difference(adapted, frozen)
    shown = [
        dataset,
        WHERE[where],
        budget_text(epsilon),
        COMPARED[comparison],
        f"{frozen.mean():.4f}",
        f"{adapted.mean():.4f}",
        interval_text(difference),
        verdict(difference),
    ]
    return [f"| {' | '.join(shown)} |"]


def runs(found: Found) -> str:
    """What each kind of run releases: its number of parameters, and the ε that it spent."""
    kinds: dict[tuple[str, str, float], Sequence[Mapping[str, Any]]] = {}
    for cell, each in found.items():
        key = (cell.dataset, cell.arm, cell.epsilon)
        kinds[key] = [*kinds.get(key, []), each]
    rows = ["| data | trained | ε | parameters | ε spent | runs |", "| " + "--- | " * 6]
    rows[1] = rows[1].rstrip()
    for (dataset, arm, epsilon), some in kinds.items():
        spent = [each["epsilon"] for each in some if each["epsilon"] is not None]
        rows.append(
            f"| {dataset} | {arm} | {budget_text(epsilon)} | "
            f"{some[0]['parameters']:,} | {f'{max(spent):.2f}' if spent else '–'} | {len(some)} |"
        )
    return "\n".join(rows)
