"""New items pooled over runs that held out others: more items, so that a gain can be told.

One run holds out a tenth of the catalogue to look at, and a mean over so few items is uncertain.
Runs with other `data.seed`s hold out other items. An item that several runs held out counts once,
by its mean over them; items that a rule was chosen on, or that were looked at before, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from common.build_recommender import build_recommender
from common.errors import DataError
from common.holdout import Stage
from common.loaded_recommender import load_round
from common.run_folder import RunFolder
from simulations.cold_start.bench import ColdStartBench, is_trained
from simulations.cold_start.measuring import MODEL, UNLIFTED, NewItemFigures, plain_scorers
from simulations.evaluation.intervals import RESAMPLES, Interval, mean_interval, paired_difference
from simulations.run_statistics import run_statistics

STAGES: tuple[Stage, ...] = ("validation", "test")
"""Both parts of what a fresh run held out are new to the rule."""

Values = NDArray[np.float64]
Figures = Mapping[str, Values]


@dataclass(frozen=True)
class PooledFigures:
    """NDCG@10 of some runs together, by method and aligned.

    Attributes:
        among_all: float64 ``[I]``, over new items.
        among_new: float64 ``[I]``.
        known: float64 ``[U]``, over users.
    """

    among_all: Figures
    among_new: Figures
    known: Figures

    def rows(self) -> list[dict[str, Any]]:
        """A line for each setting and method: mean, fedrec's gain over it, and the loss."""
        rows = []
        for setting in ("among_all", "among_new", "known"):
            found: Figures = getattr(self, setting)
            for method, values in found.items():
                rows.append(
                    {
                        "setting": setting,
                        "method": method,
                        "units": len(values),
                        "ndcg_10": mean_interval(values).to_dict(),
                        "gain": paired_difference(found[MODEL], values).to_dict(),
                    }
                )
        lost = relative_loss(self.known[MODEL], self.known[UNLIFTED])
        return [*rows, {"setting": "known", "loss": lost.to_dict()}]


def relative_loss(ruled: Values, plain: Values) -> Interval:
    """The share of `plain`'s mean that `ruled` lacks, with an interval over users.

    Args:
        ruled: float64 ``[U]``.
        plain: float64 ``[U]`` of the same users, with a mean above zero.
    """

    def lost(first: Values, second: Values, axis: int = -1) -> Values:
        share: Values = 1 - first.mean(axis=axis) / second.mean(axis=axis)
        return share

    result = bootstrap(
        (ruled, plain),
        lost,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    return Interval(float(lost(ruled, plain)), float(low), float(high))


def held_out_items(folder: RunFolder) -> set[str]:
    """Ids of all items that a run did not know."""
    bench = ColdStartBench.of(folder.read_config())
    return {bench.whole.catalogue.item_ids[item] for item in bench.cold.all}


def pool(folders: Sequence[RunFolder], left_out: set[str]) -> PooledFigures:
    """Figures of the runs together, without the items `left_out`.

    Raises:
        DataError: a run was not trained by `fedrec cold-start`, or no item is left.
    """
    among_all, among_new, known = UnitMeans(), UnitMeans(), UnitMeans()
    for folder in folders:
        if not is_trained(folder):
            raise DataError(
                f"{folder.path} is no finished run of `fedrec cold-start`; make it with "
                "`fedrec cold-start SCENARIO --run NAME --set data.seed=N`"
            )
        config = folder.read_config()
        bench = ColdStartBench.of(config)
        recommender = build_recommender(config, bench.known.catalogue)
        load_round(recommender, folder.read_adapter()[0], *run_statistics(folder))
        plain = plain_scorers(bench, folder)
        for stage in STAGES:
            found = NewItemFigures.of(bench, recommender, plain, stage)
            ids = [bench.whole.catalogue.item_ids[item] for item in found.items]
            kept = [at for at, item in enumerate(ids) if item not in left_out]
            for means, values in ((among_all, found.among_all), (among_new, found.among_new)):
                means.add([ids[at] for at in kept], {n: v[kept] for n, v in values.items()})
            if stage == "test":  # users' validation items were chosen on in part
                known.add([split.user_id for split in bench.splits], found.known)
    return PooledFigures(among_all.figures(), among_new.figures(), known.figures())


class UnitMeans:
    """A mean of each unit over the runs that have it."""

    def __init__(self) -> None:
        """Without any."""
        self._found: dict[str, dict[str, list[float]]] = {}

    def add(self, units: Iterable[str], figures: Figures) -> None:
        """`figures` are aligned with `units`."""
        for at, unit in enumerate(units):
            of = self._found.setdefault(unit, {})
            for method, values in figures.items():
                of.setdefault(method, []).append(float(values[at]))

    def figures(self) -> Figures:
        """By method, units in the order of their names."""
        if not self._found:
            raise DataError("no new item is left; name a run of another data.seed")
        units = [self._found[name] for name in sorted(self._found)]
        return {
            method: np.array([float(np.mean(of[method])) for of in units]) for method in units[0]
        }
