"""Ranks of targets on the device that made the scores; `common.ranking` is the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from common.ranking import CELLS_PER_CHUNK, by_user, checked_rows, places_among_targets


@torch.no_grad()
def worst_ranks_on_device(
    scores: torch.Tensor,
    targets: Sequence[NDArray[np.int64]],
    excluded: Sequence[NDArray[np.int64]],
) -> list[NDArray[np.int64]]:
    """Rank each user's targets as `common.ranking.worst_ranks` does, on the scores' device.

    Only the ranks and the targets' own scores come back to the host.

    Args:
        scores: float[U, V], higher is better.
        targets: U arrays of item indices to be ranked, without repeats.
        excluded: U arrays of item indices that are no candidates.

    Returns:
        U arrays of 1-based ranks, aligned with `targets`.

    Raises:
        DataError: as `worst_ranks`.
    """
    users, items = scores.shape
    wanted, history = checked_rows(users, items, targets, excluded)
    user, item = (torch.from_numpy(each).to(scores.device) for each in wanted)
    clean = scores.masked_fill(scores.isnan(), -torch.inf)
    others = torch.ones(users, items, dtype=torch.bool, device=scores.device)
    others[tuple(torch.from_numpy(each).to(scores.device) for each in history)] = False
    others[user, item] = False  # candidates that are not targets
    target_score = clean[user, item]
    counts = [torch.zeros(0, dtype=torch.long, device=scores.device)]
    chunk = max(1, CELLS_PER_CHUNK // max(1, items))
    for start in range(0, len(user), chunk):
        rows = user[start : start + chunk]
        above = clean[rows] >= target_score[start : start + chunk, None]  # [chunk, V]
        counts.append((above & others[rows]).sum(dim=1))
    ranks = torch.cat(counts).cpu().numpy()
    ranks += places_among_targets(wanted[0], target_score.cpu().numpy())
    return by_user(ranks, targets)
