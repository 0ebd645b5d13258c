"""Ranks of held-out targets among all candidates; equal scores count against the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import DataError

Flat = tuple[NDArray[np.int64], NDArray[np.int64]]
CELLS_PER_CHUNK = 8_000_000  # bounds the [targets, V] comparison to some tens of MB


def worst_ranks(
    scores: NDArray[np.float32],
    targets: Sequence[NDArray[np.int64]],
    excluded: Sequence[NDArray[np.int64]],
) -> list[NDArray[np.int64]]:
    """Rank each user's targets among all items that are not in the user's history.

    Only the history is excluded: with several targets the other targets stay in the list.
    The ranks are the places in the *worst* list that agrees with the scores: of equal
    scores, targets stand after all other candidates, and among themselves one by one. A NaN
    score is as low as any score can be, so that a target with a NaN score comes last.

    Args:
        scores: float[U, V], higher is better.
        targets: U arrays of item indices to be ranked, without repeats.
        excluded: U arrays of item indices that are no candidates (the history, as far as it
            is known at that time).

    Returns:
        U arrays of 1-based ranks, aligned with `targets`.

    Raises:
        DataError: lengths disagree, an item is outside the catalogue, or a target is in the
            excluded history, where it could not be ranked.
    """
    users, items = scores.shape
    (target_user, target_item), history = checked_rows(users, items, targets, excluded)
    clean = np.where(np.isnan(scores), -np.inf, scores)
    others = np.ones((users, items), dtype=bool)  # candidates that are not targets
    others[history] = False
    others[target_user, target_item] = False
    target_score = clean[target_user, target_item]
    ranks = _candidates_at_or_above(clean, others, target_user, target_score)
    ranks += places_among_targets(target_user, target_score)
    return by_user(ranks, targets)


def checked_rows(
    users: int,
    items: int,
    targets: Sequence[NDArray[np.int64]],
    excluded: Sequence[NDArray[np.int64]],
) -> tuple[Flat, Flat]:
    """Flatten targets and histories, once they are what `worst_ranks` asks for.

    Returns:
        User numbers and items of the targets, and those of the histories.

    Raises:
        DataError: as `worst_ranks`.
    """
    _check_indices(users, items, targets, excluded)
    wanted, history = _flatten(targets), _flatten(excluded)
    hidden = np.isin(wanted[0] * items + wanted[1], history[0] * items + history[1])
    if hidden.any():
        user, item = (int(each[hidden.argmax()]) for each in wanted)
        raise DataError(
            f"target item {item} of the user at position {user} is in that user's history, "
            "so it is no candidate; remove repeated interactions before the hold-out"
        )
    return wanted, history


def by_user(
    ranks: NDArray[np.int64], targets: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """Split flat ranks ``[T]`` into one array for each row of `targets`."""
    return np.split(ranks, np.cumsum([len(row) for row in targets])[:-1]) if len(targets) else []


def _flatten(rows: Sequence[NDArray[np.int64]]) -> Flat:
    """Return row numbers and values, both int64[sum of lengths]."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    values = np.concatenate([*rows, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    return np.repeat(np.arange(len(rows), dtype=np.int64), lengths), values


def _candidates_at_or_above(
    scores: NDArray[np.float32],
    others: NDArray[np.bool_],
    user: NDArray[np.int64],
    target_score: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Count, for each of T targets, the other candidates that score at least as high."""
    counts = np.zeros(len(user), dtype=np.int64)
    chunk = max(1, CELLS_PER_CHUNK // scores.shape[1])
    for start in range(0, len(user), chunk):
        rows = user[start : start + chunk]
        above = scores[rows] >= target_score[start : start + chunk, None]  # [chunk, V]
        counts[start : start + chunk] = (above & others[rows]).sum(axis=1)
    return counts


def places_among_targets(
    user: NDArray[np.int64], target_score: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Place each target (1-based) among the targets of its own user, best score first."""
    order = np.lexsort((-target_score, user))
    places = np.empty(len(user), dtype=np.int64)
    first = np.searchsorted(user, user, side="left")  # `user` is sorted
    places[order] = np.arange(len(user)) - first + 1
    return places


def _check_indices(
    users: int,
    items: int,
    targets: Sequence[NDArray[np.int64]],
    excluded: Sequence[NDArray[np.int64]],
) -> None:
    if len(targets) != users or len(excluded) != users:
        raise DataError(
            f"scores have {users} users, but targets {len(targets)} and histories "
            f"{len(excluded)}; pass one row of each per user"
        )
    for name, rows in (("target", targets), ("history", excluded)):
        values = _flatten(rows)[1]
        if len(values) and (values.min() < 0 or values.max() >= items):
            raise DataError(
                f"a {name} item index is outside 0..{items - 1} "
                f"(found {int(values.min())}..{int(values.max())}); use catalogue indices"
            )
