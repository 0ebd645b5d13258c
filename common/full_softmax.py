"""Batches of a full softmax: every target stands against the whole catalogue.

Without privacy a unit need not be bounded by itself, so that all units of a step can share
one set of candidates, the catalogue: its rows go through the item tower's head once a step,
not once for each unit, and no negative is left to chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from common.privacy_units import Contribution, DrawSource, IntArray, collate
from common.unit_batch import UnitBatch


def full_softmax_batch(
    contributions: Sequence[Contribution],
    *,
    catalogue_size: int,
    max_history: int,
    lora_rows: int,
    source: DrawSource,
) -> UnitBatch:
    """The batch of a step in which all units share the whole catalogue as candidates.

    Args:
        contributions: of the step, B ≥ 1, drawn without negatives.
        catalogue_size: V.
        max_history: most recent items that a target is shown.
        lora_rows: R; R · B rows of the catalogue are drawn to carry LoRA's gradient.
        source: of those rows.

    Returns:
        A batch with ``[1, V]`` candidates, those with a gradient first.
    """
    batch = collate(contributions, max_history=max_history)
    targets = batch.target_items[batch.target_mask].numpy()
    live, scale = live_rows(targets, catalogue_size, lora_rows * len(contributions), source)
    rest = np.setdiff1d(np.arange(catalogue_size), live, assume_unique=True)
    order = np.concatenate([live, rest])
    columns = np.empty_like(order)
    columns[order] = np.arange(catalogue_size)
    allowed = np.ones((len(contributions), catalogue_size), dtype=bool)
    for row, contribution in enumerate(contributions):
        allowed[row, columns[contribution.unit.positives]] = False
    return replace(
        batch,
        candidates=torch.from_numpy(order[None]),
        target_columns=torch.from_numpy(columns)[batch.target_items],
        others_allowed=torch.from_numpy(allowed),
        live=len(live),
        live_scale=torch.from_numpy(scale[None]),
    )


def live_rows(
    targets: IntArray, catalogue_size: int, draws: int, source: DrawSource
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Draws the catalogue's rows that carry LoRA's gradient in a step.

    Half of the draws fall on targets, where most of the gradient is, half on any item. A row
    counts as often as it was drawn, over how often it was to be expected, so that the sum
    over the drawn rows is unbiased for the sum over all.

    Args:
        targets: ``[T]`` items of the step's targets, T ≥ 1.
        catalogue_size: V.
        draws: R; 0: no row.
        source: of the draws.

    Returns:
        The distinct items, sorted, ``[r]``, and their scales ``[r]``.
    """
    on_targets = draws // 2
    anywhere = draws - on_targets
    drawn = np.concatenate(
        [
            targets[source.integers(len(targets), on_targets)],
            source.integers(catalogue_size, anywhere),
        ]
    )
    live, times = np.unique(drawn, return_counts=True)
    share = np.bincount(targets, minlength=catalogue_size)[live] / len(targets)
    expected = on_targets * share + anywhere / catalogue_size
    return live.astype(np.int64), (times / expected).astype(np.float32)
