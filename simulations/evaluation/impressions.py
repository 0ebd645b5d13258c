"""Held-out impressions: who was shown what after the history ends, scored by any scorer.

An impression belongs to the stage in whose time it lies: validation from the user's first
validation click on, test from the first test click on. All impressions of a user at a stage are
scored with the history before that stage, so that nothing of a stage helps within it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from common.holdout import Stage, UserSplit, history_of, is_judged
from common.interactions import Catalogue
from common.requests import requests_of
from simulations.evaluation.full_ranking import Scorer
from simulations.evaluation.impression_metrics import IMPRESSION_METRICS, impression_metrics
from simulations.public.tables import Impression

Floats = NDArray[np.float64]
USERS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Shown:
    """One impression of the catalogue's items: int64[n], and bool[n] which were clicked."""

    items: NDArray[np.int64]
    clicked: NDArray[np.bool_]

    @property
    def is_ranked(self) -> bool:
        """Whether some were clicked and some not, so that there is something to rank."""
        return bool(self.clicked.any() and not self.clicked.all())


@dataclass(frozen=True, eq=False)
class StageImpressions:
    """Impressions of one stage.

    Attributes:
        splits: U users with impressions, a history and a target at this stage.
        shown: U lists of theirs.
        left_out: Impressions without a click or without anything else.
    """

    stage: Stage
    splits: tuple[UserSplit, ...]
    shown: tuple[tuple[Shown, ...], ...]
    left_out: int


@dataclass(frozen=True, eq=False)
class ScoredImpressions:
    """What a scorer made of a stage's impressions.

    Attributes:
        sums: float64[U, 5]: each user's sums of `IMPRESSION_METRICS`, and the number of them.
        clicked: bool[N], of all items shown.
        scores: float64[N].
    """

    sums: Floats
    clicked: NDArray[np.bool_]
    scores: Floats

    def means(self) -> dict[str, float]:
        """The means over impressions by name."""
        *totals, count = self.sums.sum(axis=0)
        return {n: float(t / count) for n, t in zip(IMPRESSION_METRICS, totals, strict=True)}


def stage_impressions(
    impressions: Iterable[Impression],
    splits: Sequence[UserSplit],
    catalogue: Catalogue,
    stage: Stage,
) -> StageImpressions:
    """Those of the users of `splits` that lie in the stage's time.

    Items that the catalogue does not know are left out of what was shown, and so are those of
    the history before the stage, which are no candidates.
    """
    place = {item: index for index, item in enumerate(catalogue.item_ids)}
    by_id = {split.user_id: split for split in splits if is_judged(split, stage)}
    found: dict[str, list[Shown]] = defaultdict(list)
    had: dict[str, set[int]] = {}
    left_out = 0
    for each in impressions:
        split = by_id.get(each.user_id)
        if split is None or not _lies_in(each.timestamp, split, stage):
            continue
        if each.user_id not in had:
            had[each.user_id] = set(history_of(split, stage).tolist())
        pairs = zip(each.items, each.clicked, strict=True)
        known = [
            (place[i], c) for i, c in pairs if place.get(i, -1) not in had[each.user_id] | {-1}
        ]
        if known:
            items, clicked = zip(*known, strict=True)
            shown = Shown(np.array(items, dtype=np.int64), np.array(clicked, dtype=bool))
            found[each.user_id].append(shown)
            left_out += not shown.is_ranked
    kept = tuple(split for split in by_id.values() if found[split.user_id])
    return StageImpressions(stage, kept, tuple(tuple(found[s.user_id]) for s in kept), left_out)


def score_impressions(scorer: Scorer, impressions: StageImpressions) -> ScoredImpressions:
    """Scores every item that was shown, with the user's history before the stage."""
    sums = np.zeros((len(impressions.splits), len(IMPRESSION_METRICS) + 1))
    labels: list[NDArray[np.bool_]] = [np.zeros(0, dtype=bool)]
    values: list[Floats] = [np.zeros(0)]
    for start in range(0, len(impressions.splits), USERS_AT_ONCE):
        part = impressions.splits[start : start + USERS_AT_ONCE]
        rows = np.asarray(scorer(requests_of(part, impressions.stage)), dtype=np.float64)
        for user, row in enumerate(rows, start=start):
            for shown in impressions.shown[user]:
                scores = row[shown.items]
                labels.append(shown.clicked)
                values.append(scores)
                if shown.is_ranked:
                    sums[user, :-1] += impression_metrics(shown.clicked, scores)
                    sums[user, -1] += 1
    return ScoredImpressions(sums, np.concatenate(labels), np.concatenate(values))


def pooled_auc(scored: ScoredImpressions) -> float:
    """AUC over all items shown, whoever saw them."""
    return float(roc_auc_score(scored.clicked, scored.scores))


def calibrated_log_loss(validation: ScoredImpressions, test: ScoredImpressions) -> float:
    """Log loss on test of click probabilities: slope and offset are fitted on validation.

    Training draws its non-clicks from the catalogue, so that raw scores say who is clicked
    first, and not how often what is shown is clicked.
    """
    fitted = LogisticRegression(C=np.inf).fit(validation.scores[:, None], validation.clicked)
    return float(log_loss(test.clicked, fitted.predict_proba(test.scores[:, None])[:, 1]))


def base_log_loss(validation: ScoredImpressions, test: ScoredImpressions) -> float:
    """Log loss on test of validation's share of clicks: what knows nothing has."""
    share = np.full(len(test.clicked), validation.clicked.mean())
    return float(log_loss(test.clicked, share))


def _lies_in(timestamp: int, split: UserSplit, stage: Stage) -> bool:
    if stage == "test":
        return bool(timestamp >= split.test.timestamps[0])
    ends = split.test.timestamps[0] if len(split.test) else np.inf
    return bool(split.validation.timestamps[0] <= timestamp < ends)
