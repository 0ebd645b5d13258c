"""From a search's run folders to `search.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from simulations.comparison.comparing import difference, entry_record
from simulations.comparison.entries import Entry, read_entry
from simulations.search.planning import setting_text
from simulations.search.question import Search
from simulations.search.search_file import SearchFile, SearchPoint
from simulations.search.search_folder import SearchFolder
from simulations.sweeps.planning import PlannedRun
from simulations.sweeps.run_pool import RunEnd
from simulations.sweeps.summary import point_label, run_record


class _Found(NamedTuple):
    point: SearchPoint
    entry: Entry | None  # over its finished runs

    @property
    def ndcg(self) -> float:
        result = self.point.result
        return -1.0 if result is None or result.ndcg_10.mean is None else result.ndcg_10.mean


def summarise(
    folder: SearchFolder,
    search: Search,
    own: Mapping[str, str],
    runs: Sequence[PlannedRun],
    ends: Mapping[str, RunEnd],
) -> SearchFile:
    """Compute what a search found.

    Args:
        folder: the search's.
        search: what was asked.
        own: the scenario's own values of the searched keys.
        runs: all of it, in order.
        ends: how the runs that were just made ended, by their path.
    """
    config = runs[0].config
    resamples = config.evaluation.bootstrap_resamples
    found = [
        _found(folder, list(group), own, ends) for _, group in groupby(runs, lambda r: r.point)
    ]
    found.sort(key=lambda each: each.ndcg, reverse=True)
    best = next((each for each in found if each.entry and each.point.is_complete), None)
    mine = next((each for each in found if each.point.is_own and each.point.is_complete), None)
    gain = None
    if best and mine and best.entry and mine.entry and best is not mine:
        gain = difference(best.entry, mine.entry, resamples)
    return SearchFile(
        name=search.name,
        scenario=search.scenario,
        settings={key: setting_text(value) for key, value in search.settings.items()},
        overrides=search.overrides,
        grid=search.grid,
        own=dict(own),
        mode=config.privacy.mode,
        target_epsilon=config.privacy.target_epsilon if config.is_private else None,
        target_delta=config.privacy.target_delta,
        unit=config.privacy.unit,
        seeds=search.seeds,
        bootstrap_resamples=resamples,
        note=search.note,
        targets=search.targets,
        points=tuple(_against(best, each, resamples) for each in found),
        best=best.point.name if best else None,
        best_less_own=gain,
    )


def _found(
    folder: SearchFolder,
    runs: Sequence[PlannedRun],
    own: Mapping[str, str],
    ends: Mapping[str, RunEnd],
) -> _Found:
    records = tuple(run_record(folder, run, ends.get(run.path)) for run in runs)
    settings = dict(runs[0].settings)
    flat = runs[0].config.to_flat()
    is_own = all(setting_text(flat[key]) == value for key, value in own.items())
    label = point_label(settings) if settings else "the scenario's own settings"
    finished = [folder.path / record.path for record in records if record.status == "finished"]
    entry = read_entry(label, finished) if finished else None
    resamples = runs[0].config.evaluation.bootstrap_resamples
    spent = [record.epsilon for record in records if record.epsilon is not None]
    point = SearchPoint(
        name=runs[0].point,
        label=label,
        settings=settings,
        is_own=is_own,
        epsilon=max(spent, default=None),
        runs=records,
        result=entry_record(entry, resamples=resamples) if entry else None,
    )
    return _Found(point, entry)


def _against(best: _Found | None, each: _Found, resamples: int) -> SearchPoint:
    """The point with its paired difference from the best."""
    if best is None or best.entry is None or each.entry is None or each is best:
        return each.point
    less = difference(each.entry, best.entry, resamples)
    return each.point.model_copy(update={"less_best": less})
