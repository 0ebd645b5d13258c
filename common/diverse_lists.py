"""Lists with variety: redundant items, one-sided genres and worn-out items make way.

All of it is done where the list is made, with the user's own history and the public
catalogue: nothing leaves the site, so it costs no ε. Each function takes a user's candidates
with their scores and chooses k of them, one at a time, so that any list's first places are
the list that a smaller k would have given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError

Floats = NDArray[np.float64]
Chosen = NDArray[np.int64]

SMOOTHING = 0.01
"""Share of the wanted genres that is mixed into a list's own (α of Steck, 2018)."""


def mmr_list(scores: Floats, vectors: Floats, k: int, strength: float) -> Chosen:
    """Choose k candidates by maximal marginal relevance (Carbonell & Goldstein, 1998, eq. 1).

    Next comes the candidate with the largest (1 − strength) · relevance − strength · (largest
    cosine to an item chosen before); relevance is the score, scaled to 0 … 1.

    Args:
        scores: float64 ``[D]`` of the candidates, higher is better.
        vectors: float64 ``[D, d]`` of the candidates; a zero vector is like no other.
        k: length of the list.
        strength: 0 (scores alone) to 1 (variety alone, after the first place).

    Returns:
        int64 ``[min(k, D)]``, places among the candidates, first place first.

    Raises:
        DataError: shapes that do not fit, a score that is not finite, k < 1, or a strength
            outside 0 … 1.
    """
    _check(scores, len(vectors), k, strength)
    relevance, directions = _scaled(scores), _directions(vectors)
    left = np.ones(len(scores), dtype=bool)
    nearest = np.zeros(len(scores))  # [D], largest cosine to what is chosen; none yet
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        worth = (1 - strength) * relevance - strength * nearest
        best = _best(worth, left)
        cosine = directions @ directions[best]
        nearest = np.maximum(nearest, cosine) if chosen else cosine
        chosen.append(best)
        left[best] = False
    return np.array(chosen, dtype=np.int64)


def calibrated_list(
    scores: Floats, genres: Floats, wanted: Floats, k: int, strength: float
) -> Chosen:
    """Choose k candidates whose genres together are like those of the history (Steck, 2018).

    Next comes the candidate with the largest (1 − strength) · sum of relevance ÷ k −
    strength · KL(wanted ‖ the list's genres), over the list with it (his eq. 8, greedily).

    Args:
        scores: float64 ``[D]`` of the candidates, higher is better.
        genres: float64 ``[D, G]``; a row sums to 1, or to 0 for an item without genres.
        wanted: float64 ``[G]``, the genres of the user's history; sums to 1, or to 0 where
            nothing is known, and then the scores decide alone.
        k: length of the list.
        strength: 0 (scores alone) to 1 (genres alone).

    Returns:
        int64 ``[min(k, D)]``, places among the candidates, first place first.

    Raises:
        DataError: as `mmr_list`.
    """
    _check(scores, len(genres), k, strength)
    if wanted.shape != genres.shape[1:]:
        raise DataError(
            f"a calibrated list needs one share for each of {genres.shape[1]} genres, got "
            f"{wanted.shape}; take both from the same catalogue"
        )
    relevance = _scaled(scores)
    left = np.ones(len(scores), dtype=bool)
    total, chosen = np.zeros(genres.shape[1]), list[int]()
    for _ in range(min(k, len(scores))):
        shares = (total + genres) / (len(chosen) + 1)  # [D, G], of the list with each candidate
        worth = (1 - strength) * relevance / k - strength * divergence(wanted, shares)
        best = _best(worth, left)
        total += genres[best]
        chosen.append(best)
        left[best] = False
    return np.array(chosen, dtype=np.int64)


def divergence(wanted: Floats, shares: Floats) -> Floats:
    """KL(wanted ‖ (1 − α) shares + α wanted) of each row: how far a list misses the wanted genres.

    Args:
        wanted: float64 ``[G]``.
        shares: float64 ``[..., G]``.

    Returns:
        float64 ``[...]``; 0 where nothing is wanted.
    """
    is_wanted = wanted > 0
    p = wanted[is_wanted]
    q = (1 - SMOOTHING) * shares[..., is_wanted] + SMOOTHING * p
    return np.asarray((p * np.log(p / q)).sum(axis=-1))


def capped_lists(
    candidates: Sequence[NDArray[np.int64]], k: int, most: int, items: int, *, seed: int = 0
) -> list[NDArray[np.int64]]:
    """Give each user k candidates so that no item stands in more than `most` lists.

    Places are given out in turns, all first places before all second ones, to the users in an
    order drawn anew for each turn; each user takes the best candidate that is still to be
    had. Where all are spent, the one shown least so far is taken: a list is never short while
    candidates are left.

    Args:
        candidates: U arrays of item indices, best first.
        k: length of the lists.
        most: lists that an item may stand in.
        items: V.
        seed: of the order of the users.

    Returns:
        U arrays of at most k item indices, best first.

    Raises:
        DataError: k or `most` below 1, or an item outside the catalogue.
    """
    if k < 1 or most < 1:
        raise DataError(f"capped lists need k and most of at least 1, got {k} and {most}")
    if any(len(each) and (each.min() < 0 or each.max() >= items) for each in candidates):
        raise DataError(f"a candidate is no item of the catalogue (0..{items - 1})")
    order, shown = np.random.default_rng(seed), np.zeros(items, dtype=np.int64)
    lists: list[list[int]] = [[] for _ in candidates]
    left = [each.copy() for each in candidates]
    for _ in range(k):
        for user in order.permutation(len(candidates)):
            if not len(left[user]):
                continue
            free = np.flatnonzero(shown[left[user]] < most)
            at = int(free[0]) if len(free) else int(np.argmin(shown[left[user]]))
            item = int(left[user][at])
            lists[user].append(item)
            shown[item] += 1
            left[user] = np.delete(left[user], at)
    return [_in_order_of(each, chosen) for each, chosen in zip(candidates, lists, strict=True)]


def genre_shares(genres: Sequence[Sequence[str]]) -> Floats:
    """A catalogue's genres as shares: float64 ``[V, G]``, names sorted; an item's count equally."""
    names = sorted({name for each in genres for name in each})
    place = {name: index for index, name in enumerate(names)}
    shares = np.zeros((len(genres), len(names)))
    for item, each in enumerate(genres):
        for name in each:
            shares[item, place[name]] += 1 / len(each)
    return shares


def wanted_shares(history: NDArray[np.int64], shares: Floats) -> Floats:
    """The genres of a history: float64 ``[G]``, summing to 1, or to 0 where none is known."""
    found: Floats = shares[history].sum(axis=0)
    total = found.sum()
    return found / total if total > 0 else found


def _check(scores: Floats, rows: int, k: int, strength: float) -> None:
    if not 0 <= strength <= 1:
        raise DataError(f"the strength of a list's variety must be in 0..1, got {strength}")
    if k < 1 or rows != len(scores) or not np.isfinite(scores).all():
        raise DataError(
            f"a list needs k of at least 1 and a finite score for each candidate, got k={k}, "
            f"{len(scores)} scores and {rows} candidates; leave out items without a score"
        )


def _scaled(scores: Floats) -> Floats:
    if not len(scores):
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)


def _directions(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0))


def _best(worth: Floats, left: NDArray[np.bool_]) -> int:
    """The first of the best that are left: candidates stand in the order of their scores."""
    return int(np.argmax(np.where(left, worth, -np.inf)))


def _in_order_of(candidates: NDArray[np.int64], chosen: Sequence[int]) -> NDArray[np.int64]:
    return candidates[np.isin(candidates, np.array(chosen, dtype=np.int64))]
