"""From evaluated rows to the records of the fairness tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.interactions import Catalogue
from simulations.evaluation.intervals import Interval, paired_difference
from simulations.fairness.exposure import exposure
from simulations.fairness.fairness_row import Audience, EvaluatedLists
from simulations.fairness.groups import GroupUtility
from simulations.fairness.impact import Impact
from simulations.fairness.niche import (
    LENGTH_THIRDS,
    PROFILE_THIRDS,
    Thirds,
    by_thirds,
    history_lengths,
    profile_popularity,
)
from simulations.fairness.provider import (
    ItemGroups,
    equal_opportunity,
    genre_groups,
    popularity_groups,
)
from simulations.fairness.sites import site_utility
from simulations.fairness.tail import user_auc, worst_tenth
from simulations.fairness.user_intervals import bootstrap_interval, gini
from simulations.report.fairness_records import (
    FairnessRow,
    ImpactGroupRecord,
    ImpactRecord,
    NicheRecord,
    ProviderGroupRecord,
    ProviderRecord,
    SitesRecord,
)
from simulations.report.interval_record import GroupRecord, IntervalRecord

LEAST_USERS_FOR_THIRDS = 3


def fairness_row(
    row: EvaluatedLists, plain: EvaluatedLists | None, audience: Audience
) -> FairnessRow:
    """Make a row of the main table; `plain` is the model it is compared with, if any."""
    settings = {"resamples": audience.resamples, "seed": audience.seed}
    utility = row.metrics.ndcg_10
    shown = exposure(row.lists, audience.counts, len(audience.splits))
    auc = user_auc(row.metrics.ranks, audience.candidates)
    figures = {
        "utility": bootstrap_interval(utility, lambda rows: rows.mean(axis=1), **settings),
        "user_gini": bootstrap_interval(utility, gini, **settings),
        "worst_tenth_auc": worst_tenth(auc, **settings),
        "worst_tenth_mrr": worst_tenth(row.metrics.mrr, **settings),
        "coverage": shown.coverage,
        "exposure_gini": shown.gini,
        "popularity": shown.popularity,
        "long_tail_share": shown.long_tail_share,
    }
    difference = None
    if plain is not None:
        difference = _of(paired_difference(utility, plain.metrics.ndcg_10, **settings))
    return FairnessRow(
        row=row.name,
        kind=row.kind,
        users=len(utility),
        difference=difference,
        note=row.note,
        **{name: _of(figure) for name, figure in figures.items()},
    )


def provider_records(
    row: EvaluatedLists, catalogue: Catalogue, audience: Audience
) -> list[ProviderRecord]:
    """Equal opportunity by genre (where genres are known) and by popularity."""
    ways: list[tuple[Literal["genre", "popularity"], ItemGroups]] = [
        ("genre", genre_groups(catalogue.genres)),
        ("popularity", popularity_groups(audience.counts)),
    ]
    targets = [split.test.items for split in audience.splits]
    records = []
    for by, groups in ways:
        report = equal_opportunity(
            row.metrics.ranks, targets, groups, resamples=audience.resamples, seed=audience.seed
        )
        if report is None:
            continue
        lines = tuple(
            ProviderGroupRecord(
                group=g.group, items=g.items, relevant=g.relevant, probability=_of(g.probability)
            )
            for g in report.groups
        )
        records.append(
            ProviderRecord(row=row.name, by=by, groups=lines, dispersion=_of(report.dispersion))
        )
    return records


def niche_records(row: EvaluatedLists, audience: Audience) -> list[NicheRecord]:
    """Utility by thirds of profile popularity and of history length; none below three users."""
    splits, utility = audience.splits, row.metrics.ndcg_10
    if len(splits) < LEAST_USERS_FOR_THIRDS:
        return []
    settings = {"resamples": audience.resamples, "seed": audience.seed}
    profile = profile_popularity(splits, audience.counts)
    ways: list[tuple[Literal["profile popularity", "history length"], Thirds]] = [
        ("profile popularity", by_thirds(profile, utility, PROFILE_THIRDS, **settings)),
        ("history length", by_thirds(history_lengths(splits), utility, LENGTH_THIRDS, **settings)),
    ]
    return [
        NicheRecord(row=row.name, by=by, groups=group_records(t.groups), gap=_of(t.gap))
        for by, t in ways
    ]


def sites_record(
    row: EvaluatedLists, names: Sequence[str], site_of_user: NDArray[np.int64], audience: Audience
) -> SitesRecord:
    """Utility per site."""
    report = site_utility(
        names,
        site_of_user,
        row.metrics.ndcg_10,
        resamples=audience.resamples,
        seed=audience.seed,
    )
    return SitesRecord(
        row=row.name,
        sites=group_records(report.sites),
        worst_site=report.worst_site,
        spread=_of(report.spread),
        chance=_of(report.chance),
    )


def impact_record(row: str, reference: str, epsilon: float, impact: Impact) -> ImpactRecord:
    """Turn an impact into its record; what is not defined becomes null."""
    return ImpactRecord(
        row=row,
        reference=reference,
        epsilon=epsilon,
        attribute=impact.attribute,
        groups=tuple(
            ImpactGroupRecord(
                group=g.group, n=g.n, loss=_of(g.loss), relative_loss=_of_defined(g.relative_loss)
            )
            for g in impact.groups
        ),
        spread=_of(impact.spread),
        relative_spread=_of_defined(impact.relative_spread),
    )


def group_records(groups: Sequence[GroupUtility]) -> tuple[GroupRecord, ...]:
    """Turn groups into their records, in the same order."""
    return tuple(GroupRecord(group=g.group, n=g.n, utility=_of(g.utility)) for g in groups)


def _of(interval: Interval) -> IntervalRecord:
    return IntervalRecord.of(interval)


def _of_defined(interval: Interval) -> IntervalRecord | None:
    return None if np.isnan(interval.mean) else IntervalRecord.of(interval)
