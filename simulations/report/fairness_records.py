"""The fairness tables of `metrics.json`; `docs/fairness.md` says what each means.

Utility is NDCG@10 on the `last_fifth` split, of models that never trained on those items.
Utility by gender, age and occupation stands in `MetricsFile.groups`, from the same rows.
"""

from __future__ import annotations

from typing import Literal

from simulations.report.interval_record import GroupRecord, IntervalRecord, Record

FairnessRowKind = Literal["model", "mitigation", "start", "baseline"]


class FairnessRow(Record):
    """One row of the main fairness table.

    Attributes:
        row: as printed; the other tables name rows by it.
        kind: `model` is the plain model, `mitigation` the same with one option switched on,
            `start` the model before training.
        users: that had test items.
        utility: mean NDCG@10.
        difference: of utility from the plain model's, paired; null for the model itself.
        user_gini: inequality of utility among users, 0 equal.
        worst_tenth_auc: mean full-rank AUC of the worst-served 10% of users.
        worst_tenth_mrr: the same of MRR.
        coverage: share of the catalogue that is in some user's top 10.
        exposure_gini: inequality of the items' places in top 10s, 0 equal.
        popularity: mean share of users who have the recommended item in their train part.
        long_tail_share: share of recommended places that go to long-tail items.
        note: what a reader must know about the row.
    """

    row: str
    kind: FairnessRowKind
    users: int
    utility: IntervalRecord
    difference: IntervalRecord | None
    user_gini: IntervalRecord
    worst_tenth_auc: IntervalRecord
    worst_tenth_mrr: IntervalRecord
    coverage: IntervalRecord
    exposure_gini: IntervalRecord
    popularity: IntervalRecord
    long_tail_share: IntervalRecord
    note: str = ""


class ProviderGroupRecord(Record):
    """P(recommended given relevant) of a group of `items` items with `relevant` test events."""

    group: str
    items: int
    relevant: int
    probability: IntervalRecord


class ProviderRecord(Record):
    """Equal opportunity among providers: `dispersion` is std ÷ mean over the groups."""

    row: str
    by: Literal["genre", "popularity"]
    groups: tuple[ProviderGroupRecord, ...]
    dispersion: IntervalRecord


class NicheRecord(Record):
    """Utility by terciles of users, lowest tercile first; `gap` is the last minus the first."""

    row: str
    by: Literal["profile popularity", "history length"]
    groups: tuple[GroupRecord, ...]
    gap: IntervalRecord


class SitesRecord(Record):
    """Utility per site.

    Attributes:
        row: name of the row.
        sites: in the order of the partition.
        worst_site: the site with the lowest mean.
        spread: highest minus lowest mean over sites.
        chance: that spread if the users were dealt to sites of these sizes at random: mean
            and 95% band. Only a spread above the band says that sites differ.
    """

    row: str
    sites: tuple[GroupRecord, ...]
    worst_site: str
    spread: IntervalRecord
    chance: IntervalRecord


class ImpactGroupRecord(Record):
    """What a group lost to privacy: mean utility without noise minus that with it."""

    group: str
    n: int
    loss: IntervalRecord
    relative_loss: IntervalRecord | None


class ImpactRecord(Record):
    """DP's disparate impact at one ε, by one attribute.

    Attributes:
        row: name of the private run or row.
        reference: name of the run without privacy that it is compared with.
        epsilon: of each user, of the private row.
        attribute: for instance `gender`.
        groups: hardest hit first.
        spread: max − min over groups of the loss.
        relative_spread: the same of the loss relative to each group's utility without
            privacy; null where a group had none.
    """

    row: str
    reference: str
    epsilon: float
    attribute: str
    groups: tuple[ImpactGroupRecord, ...]
    spread: IntervalRecord
    relative_spread: IntervalRecord | None


class FairnessRecord(Record):
    """Every fairness table of a run.

    Attributes:
        source: whose adapter was looked at: the run's own, or its companion's.
        rows: the plain model first, then mitigations, then references.
        providers, niche, sites: the plain model and mitigations, then references.
        impact: only where runs at several ε were compared.
        notes: what a reader must know about all tables.
    """

    split: Literal["last_fifth"] = "last_fifth"
    source: Literal["run", "companion"]
    rows: tuple[FairnessRow, ...]
    providers: tuple[ProviderRecord, ...]
    niche: tuple[NicheRecord, ...]
    sites: tuple[SitesRecord, ...]
    impact: tuple[ImpactRecord, ...] = ()
    notes: tuple[str, ...] = ()
