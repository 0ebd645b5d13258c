"""The fairness tables of a run: from its `last_fifth` companion, or from the run itself.

Group figures need several test items a user, and a model that never trained on them: that of
a federation on the `last_fifth` split. Only a simulation may look; outside, group statistics
are releases and cost ε.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.adapters import Adapter
from common.config import RunConfig
from common.holdout import hold_out
from common.initial_adapter import initial_adapter
from common.interactions import Dataset
from common.loaded_recommender import loaded_recommender
from common.progress import ProgressListener
from common.recommender import Recommender
from common.run_folder import RunFolder
from common.site_folder import site_name
from simulations.baselines import choose_ease, popularity_scorer, solve_ease
from simulations.companions import companion_config, run_companion
from simulations.fairness.fairness_row import Audience, EvaluatedLists, evaluated
from simulations.fairness.groups import group_reports, user_gini
from simulations.fairness.mitigations import mitigation_rows
from simulations.fairness.tables import (
    fairness_row,
    niche_records,
    provider_records,
    sites_record,
)
from simulations.partition import partition_users
from simulations.report.fairness_records import FairnessRecord
from simulations.report.metrics_building import groups_record
from simulations.report.metrics_file import GroupsRecord, MetricsFile
from simulations.run_statistics import run_statistics

LAST_FIFTH = "last_fifth"
EQUAL_WEIGHTS = "last_fifth_equal"
SPREAD_NOTE = (
    "A spread over several groups or sites picks the extremes, so chance alone makes one; that "
    "over sites stands beside what dealing the users to sites at random gives."
)
OWN_SITES_NOTE = "The users' sites are those of data.sites_folder; no table by site is made."


def with_fairness(
    metrics: MetricsFile,
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    listener: ProgressListener | None = None,
) -> MetricsFile:
    """Add the fairness tables to a run's metrics, where the run is to have them.

    Group utilities of another split's model give way to those of the same model as the
    other fairness tables.

    Args:
        metrics: of the run, its model in the first row.
        config: of the run.
        folder: of the run; companions are made in it.
        dataset: the pooled data.
        listener: hears that a companion starts.

    Returns:
        The metrics, as they were if the run has no fairness tables.

    Raises:
        FederationError: a companion could not go on.
    """
    if not config.shows_fairness:
        return metrics
    fairness, groups = fairness_tables(metrics.rows[0].name, config, folder, dataset, listener)
    return metrics.model_copy(
        update={"fairness": fairness, "groups": groups, "groups_split": LAST_FIFTH}
    )


def fairness_tables(
    name: str,
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    listener: ProgressListener | None = None,
) -> tuple[FairnessRecord, tuple[GroupsRecord, ...]]:
    """Make every fairness table and the utilities by attribute; see `with_fairness`.

    Args:
        name: of the model's row.
        config: of the run; it has a `last_fifth` model (`RunConfig.shows_fairness`).
        folder: of the run.
        dataset: the pooled data.
        listener: hears that a companion starts.
    """
    splits = hold_out(
        dataset.interactions,
        dataset.catalogue,
        split=LAST_FIFTH,
        seed=config.data.seed,
        users=dataset.users,
    )
    audience = Audience.of(
        splits,
        len(dataset.catalogue),
        resamples=config.evaluation.bootstrap_resamples,
        seed=config.data.seed,
    )
    sites = _sites_of(audience, dataset, config)
    is_own = config.data.split == LAST_FIFTH
    scene = _Scene(config, folder, dataset, listener)
    rows = [*_models(name, scene, audience, sites), *_references(audience)]
    plain = rows[0]
    knows_sites = not (is_own and config.data.sites_folder)
    names = [site_name(number) for number in range(config.data.sites)] if knows_sites else []
    record = FairnessRecord(
        source="run" if is_own else "companion",
        rows=tuple(fairness_row(r, None if r is plain else plain, audience) for r in rows),
        providers=tuple(
            each for row in rows for each in provider_records(row, dataset.catalogue, audience)
        ),
        niche=tuple(each for row in rows for each in niche_records(row, audience)),
        sites=tuple(sites_record(row, names, sites, audience) for row in rows if knows_sites),
        notes=(SPREAD_NOTE,) if knows_sites else (SPREAD_NOTE, OWN_SITES_NOTE),
    )
    return record, tuple(_groups(rows, dataset, audience))


def _models(
    name: str, scene: _Scene, audience: Audience, sites: NDArray[np.int64]
) -> Iterator[EvaluatedLists]:
    """The plain model first, then mitigations, then the model before training."""
    config, own = scene.config, scene.folder
    if config.data.split != LAST_FIFTH:
        own = scene.companion(LAST_FIFTH, {"data.split": LAST_FIFTH})
    if config.federation.weighting == "fair":
        changes = {"data.split": LAST_FIFTH, "federation.weighting": "equal"}
        plain = scene.trained(scene.companion(EQUAL_WEIGHTS, changes))
        yield evaluated(f"{name}, equal weights", "model", plain.score_all, audience)
        name, note = (
            f"{name}, fair weights",
            f"weights (1 − NDCG@10)^{config.federation.fairness_q:g}",
        )
        recommender = scene.trained(own)
        yield evaluated(name, "mitigation", recommender.score_all, audience, note)
    else:
        recommender = scene.trained(own)
        yield evaluated(name, "model", recommender.score_all, audience)
    yield from mitigation_rows(name, recommender, config, audience, sites)
    start = scene.with_adapter(initial_adapter(config), own)
    note = "frozen BERT, untrained head, the model's own statistics of items"
    yield evaluated("fedrec before training", "start", start.score_all, audience, note)


def _references(audience: Audience) -> Iterator[EvaluatedLists]:
    """What pooled data give without privacy."""
    items = len(audience.counts)
    popularity = popularity_scorer(audience.splits, items)
    yield evaluated("Pop", "baseline", popularity, audience, "pooled data, no privacy")
    ease, penalty = choose_ease(audience.splits, solve_ease(audience.splits, items))
    note = f"pooled data, no privacy, λ={penalty:g} chosen on validation"
    yield evaluated("EASE", "baseline", ease, audience, note)


@dataclass(frozen=True)
class _Scene:
    """A finished run whose companions are to be made."""

    config: RunConfig
    folder: RunFolder
    dataset: Dataset
    listener: ProgressListener | None

    def companion(self, name: str, changes: Mapping[str, object]) -> RunFolder:
        """Run a companion of the run."""
        if self.listener is not None:
            self.listener.message(f"fairness: a companion run on {LAST_FIFTH} ({name})")
        changed = companion_config(self.config, changes)
        return run_companion(name, changed, self.folder, self.dataset)

    def trained(self, folder: RunFolder) -> Recommender:
        """The process's recommender with the adapter and the statistics of a finished run."""
        adapter, _ = folder.read_adapter()
        return self.with_adapter(adapter, folder)

    def with_adapter(self, adapter: Adapter, folder: RunFolder) -> Recommender:
        """Another adapter beside the statistics of a finished run."""
        catalogue = self.dataset.catalogue
        return loaded_recommender(self.config, catalogue, adapter, *run_statistics(folder))


def _sites_of(audience: Audience, dataset: Dataset, config: RunConfig) -> NDArray[np.int64]:
    """int64 ``[U]``: the site of each user of the audience, by the run's partition."""
    place = {user: number for number, user in enumerate(dataset.users.user_ids)}
    site = np.zeros(len(place), dtype=np.int64)
    for number, part in enumerate(partition_users(dataset, config.data)):
        site[part] = number
    return site[[place[split.user_id] for split in audience.splits]]


def _groups(
    rows: list[EvaluatedLists], dataset: Dataset, audience: Audience
) -> Iterator[GroupsRecord]:
    """Models and mitigations by every attribute, other rows by gender alone."""
    users = dataset.users
    for row in rows:
        is_ours = row.kind in ("model", "mitigation")
        attributes = {k: v for k, v in users.attributes.items() if is_ours or k == "gender"}
        reports = group_reports(
            row.metrics,
            users.user_ids,
            attributes,
            resamples=audience.resamples,
            seed=audience.seed,
        )
        inequality = user_gini(row.metrics.ndcg_10)
        for report in reports:
            yield groups_record(row.name, report, inequality)
