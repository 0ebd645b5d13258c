"""The trade-off curve: accuracy against variety, for each way to vary lists and each strength."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.diverse_lists import (
    calibrated_list,
    capped_lists,
    divergence,
    genre_shares,
    mmr_list,
    wanted_shares,
)
from common.interactions import Catalogue
from common.metrics import user_metrics
from common.reranking import penalise_popularity
from simulations.evaluation.full_ranking import Stage, history_of, targets_of
from simulations.evaluation.intervals import Interval, paired_difference
from simulations.evaluation.top_lists import LIST_LENGTH, NOBODY, top_lists
from simulations.fairness.exposure import exposure
from simulations.fairness.fairness_row import Audience
from simulations.fairness.user_intervals import bootstrap_interval

DEPTH = 100
Lists = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """What lists are made from: each user's best items, and what is known of items in public.

    Attributes:
        items: int64 ``[U, D]``, best first; `NOBODY` where a user has fewer.
        scores: float64 ``[U, D]``.
        vectors: float64 ``[V, d]`` of the items' texts.
        genres: float64 ``[V, G]`` (`common.diverse_lists.genre_shares`).
        wanted: float64 ``[U, G]``, the genres of each user's history.
        prior: float32 ``[V]``, the run's released popularity; zeros where it has none.
    """

    items: Lists
    scores: NDArray[np.float64]
    vectors: NDArray[np.float64]
    genres: NDArray[np.float64]
    wanted: NDArray[np.float64]
    prior: NDArray[np.float32]


@dataclass(frozen=True)
class CurvePoint:
    """One way to vary lists at one strength, over all users.

    Attributes:
        method: ``plain``, ``mmr``, ``calibrated``, ``popularity`` or ``cap``.
        strength: of the method; 0 for plain, the cap's share for ``cap``.
        ndcg: NDCG@10 of the list.
        difference: of NDCG@10 from the plain lists, paired by user.
        distance: mean cosine distance of two items of a list.
        miscalibration: mean KL divergence of a list's genres from the history's.
        coverage: share of the catalogue that stands in some list.
        exposure_gini: inequality of the items' places.
    """

    method: str
    strength: float
    ndcg: Interval
    difference: Interval
    distance: Interval
    miscalibration: Interval
    coverage: Interval
    exposure_gini: Interval


def candidates_of(
    scores: NDArray[np.float32],
    audience: Audience,
    stage: Stage,
    catalogue: Catalogue,
    vectors: NDArray[np.float32],
    prior: NDArray[np.float32],
) -> Candidates:
    """Take each user's best items out of float32 ``[U, V]`` scores; other arguments as stored."""
    histories = [history_of(split, stage) for split in audience.splits]
    items = top_lists(scores, histories, DEPTH, seed=audience.seed)
    shares = genre_shares(catalogue.genres)
    return Candidates(
        items=items,
        scores=np.take_along_axis(scores, np.maximum(items, 0), 1).astype(np.float64),
        vectors=vectors.astype(np.float64),
        genres=shares,
        wanted=np.stack([wanted_shares(history, shares) for history in histories]),
        prior=prior,
    )


def curve(
    candidates: Candidates,
    audience: Audience,
    stage: Stage,
    listen: Callable[[str], None] = lambda _: None,
) -> list[CurvePoint]:
    """Measure every point of the curve; `listen` hears of each one's name before it is made."""
    targets = [targets_of(split, stage) for split in audience.splits]
    reference = list_ndcg(candidates.items[:, :LIST_LENGTH], targets)
    points = []
    for method, (make, strengths) in WAYS.items():
        if method == "popularity" and not candidates.prior.any():
            continue
        for strength in strengths:
            listen(f"{method} {strength:g}")
            lists = make(candidates, strength, audience.seed)
            points.append(_point(method, strength, lists, candidates, audience, targets, reference))
    return points


def _plain(found: Candidates, strength: float, seed: int) -> Lists:
    return found.items[:, :LIST_LENGTH]


def _mmr(found: Candidates, strength: float, seed: int) -> Lists:
    return _filled(
        kept[mmr_list(scores, found.vectors[kept], LIST_LENGTH, strength)]
        for _, kept, scores in _users(found)
    )


def _calibrated(found: Candidates, strength: float, seed: int) -> Lists:
    return _filled(
        kept[calibrated_list(scores, found.genres[kept], found.wanted[user], LIST_LENGTH, strength)]
        for user, kept, scores in _users(found)
    )


def _penalised(found: Candidates, strength: float, seed: int) -> Lists:
    """By `common.reranking`, over the candidates alone."""
    nothing = [np.zeros(0, dtype=np.int64)]
    lists = []
    for _, kept, scores in _users(found):
        row, prior = scores[None].astype(np.float32), found.prior[kept]
        ordered = penalise_popularity(row, nothing, prior, strength, depth=len(kept))
        lists.append(kept[np.argsort(-ordered[0], kind="stable")[:LIST_LENGTH]])
    return _filled(lists)


def _capped(found: Candidates, share: float, seed: int) -> Lists:
    candidates = [kept for _, kept, _ in _users(found)]
    most = max(1, int(share * len(candidates)))
    return _filled(capped_lists(candidates, LIST_LENGTH, most, len(found.vectors), seed=seed))


WAYS: Mapping[str, tuple[Callable[[Candidates, float, int], Lists], Sequence[float]]] = {
    "plain": (_plain, (0.0,)),
    "mmr": (_mmr, (0.1, 0.2, 0.35, 0.5, 0.7, 0.9)),
    "calibrated": (_calibrated, (0.01, 0.03, 0.1, 0.2, 0.5, 0.9)),
    "popularity": (_penalised, (0.1, 0.25, 0.5, 1.0, 2.0)),
    "cap": (_capped, (0.3, 0.2, 0.1, 0.05, 0.02)),
}
"""Each way with its strengths, from weak to strong; a cap's is the largest share of lists."""


def _users(
    found: Candidates,
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Each user's place, candidates and their scores."""
    for user, row in enumerate(found.items):
        kept = row[row != NOBODY]
        yield user, kept, found.scores[user, : len(kept)]


def _filled(lists: Iterable[NDArray[np.int64]]) -> Lists:
    """int64 ``[U, 10]``, with `NOBODY` where a list is short."""
    rows = list(lists)
    filled = np.full((len(rows), LIST_LENGTH), NOBODY, dtype=np.int64)
    for user, row in enumerate(rows):
        filled[user, : len(row)] = row
    return filled


def _point(
    method: str,
    strength: float,
    lists: Lists,
    found: Candidates,
    audience: Audience,
    targets: Sequence[NDArray[np.int64]],
    reference: NDArray[np.float64],
) -> CurvePoint:
    settings = {"resamples": audience.resamples, "seed": audience.seed}
    ndcg = list_ndcg(lists, targets)
    shown = exposure(lists, audience.counts, len(audience.splits))

    def mean(values: NDArray[np.float64]) -> Interval:
        return bootstrap_interval(values, lambda rows: rows.mean(axis=1), **settings)

    return CurvePoint(
        method=method,
        strength=strength,
        ndcg=mean(ndcg),
        difference=paired_difference(ndcg, reference, **settings),
        distance=mean(list_distances(lists, found.vectors)),
        miscalibration=mean(_miscalibration(lists, found)),
        coverage=shown.coverage,
        exposure_gini=shown.gini,
    )


def list_distances(lists: Lists, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean cosine distance of two items of each list (Ziegler et al., 2005): float64 ``[U]``."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    distances = np.zeros(len(lists))
    for user, row in enumerate(lists):
        shown = unit[row[row != NOBODY]]
        pairs = len(shown) * (len(shown) - 1)
        if pairs:
            cosine = shown @ shown.T
            distances[user] = 1 - (cosine.sum() - np.trace(cosine)) / pairs
    return distances


def _miscalibration(lists: Lists, found: Candidates) -> NDArray[np.float64]:
    missed = np.zeros(len(lists))
    for user, row in enumerate(lists):
        shares = found.genres[row[row != NOBODY]].mean(axis=0)
        missed[user] = divergence(found.wanted[user], shares)
    return missed


def list_ndcg(lists: Lists, targets: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """NDCG@10 of lists: a target that is not in the list has a rank beyond it."""
    ranks = []
    for row, wanted in zip(lists, targets, strict=True):
        places = {int(item): place for place, item in enumerate(row, start=1)}
        ranks.append(np.array([places.get(int(item), 10**6) for item in wanted]))
    return user_metrics(ranks)["ndcg_10"]
