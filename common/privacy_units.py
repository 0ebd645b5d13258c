"""Privacy units: one user becomes one bounded contribution to one step.

A unit's contribution holds at most `targets` of its training items, each with the history
before it, and negatives drawn inside the unit. The sampler knows only the unit's
*training* positives and draws from all other items, so a held-out item may be drawn like
any other (otherwise "never drawn as a negative" would give the test item away).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from common.holdout import UserSplit

IntArray = npt.NDArray[np.int64]


class DrawSource(Protocol):
    """The randomness a contribution needs; `common.randomness` provides it."""

    def integers(self, high: int, n: int) -> IntArray:
        """`n` integers in ``[0, high)``."""
        ...

    def permutation(self, n: int) -> IntArray:
        """A random order of ``range(n)``."""
        ...


@dataclass(frozen=True)
class Unit:
    """All training data of one user, cut to the most recent `max_history` + 1 items.

    Attributes:
        user_id: The site's own identifier; it never leaves the site.
        items: ``[n]`` int64 catalogue indices, oldest first.
        ratings: ``[n]`` float32.
        positives: ``[p]`` int64, *all* training items, sorted; never drawn as negatives.
    """

    user_id: str
    items: IntArray
    ratings: npt.NDArray[np.float32]
    positives: IntArray


@dataclass(frozen=True)
class Contribution:
    """One unit's bounded part in one step; its first `live` columns carry LoRA's gradient.

    Attributes:
        unit: The unit it was drawn from.
        positions: ``[m]`` int64, places of the targets in ``unit.items``.
        candidates: ``[N]`` int64 catalogue indices: live targets, live negatives, the rest.
        target_columns: ``[m]`` int64, where each target stands in `candidates`.
        live_scale: ``[live]`` float32, inverse inclusion shares of the live columns.
    """

    unit: Unit
    positions: IntArray
    candidates: IntArray
    target_columns: IntArray
    live_scale: npt.NDArray[np.float32]


@dataclass(frozen=True)
class UnitBatch:
    """Padded tensors of B contributions; H history items, m targets, N candidates.

    Attributes:
        history: ``[B, H]`` int64, oldest first, zero-padded on the right.
        history_mask: ``[B, H]`` bool.
        positions: ``[B, m]`` int64; target j may look at history places below it.
        target_mask: ``[B, m]`` bool.
        ratings: ``[B, m]`` float32.
        target_items: ``[B, m]`` int64.
        candidates: ``[B, N]`` int64.
        target_columns: ``[B, m]`` int64.
        others_allowed: ``[B, N]`` bool, candidates that may stand against a target.
        live: Number of leading candidate columns with a gradient through LoRA.
        live_scale: ``[B, live]`` float32.
    """

    history: torch.Tensor
    history_mask: torch.Tensor
    positions: torch.Tensor
    target_mask: torch.Tensor
    ratings: torch.Tensor
    target_items: torch.Tensor
    candidates: torch.Tensor
    target_columns: torch.Tensor
    others_allowed: torch.Tensor
    live: int
    live_scale: torch.Tensor


def make_units(splits: Sequence[UserSplit], *, max_history: int) -> list[Unit]:
    """Turns each user's training part into a unit (users without training items: none)."""
    units = []
    for split in splits:
        items = split.train.items
        if len(items) == 0:
            continue
        recent = slice(max(0, len(items) - max_history - 1), len(items))
        units.append(
            Unit(split.user_id, items[recent], split.train.ratings[recent], np.unique(items))
        )
    return units


def draw_negatives(unit: Unit, catalogue_size: int, count: int, source: DrawSource) -> IntArray:
    """Draws `count` items uniformly, with replacement, from all but the unit's positives.

    A unit that interacted with the whole catalogue gets draws from the whole catalogue.
    """
    if len(unit.positives) >= catalogue_size:
        return source.integers(catalogue_size, count)
    # The k-th non-positive item: shift a draw past the positives that stand before it.
    draws = source.integers(catalogue_size - len(unit.positives), count)
    gaps = unit.positives - np.arange(len(unit.positives))
    return draws + np.searchsorted(gaps, draws, side="right")


def draw_contribution(
    unit: Unit,
    *,
    catalogue_size: int,
    targets: int,
    negatives: int,
    lora_rows: int,
    source: DrawSource,
) -> Contribution:
    """Draws a bounded contribution of `unit`.

    Args:
        unit: The unit; at least one training item.
        catalogue_size: V.
        targets: m, at most so many of the unit's items are targets.
        negatives: K, drawn uniformly outside the unit's training positives.
        lora_rows: How many candidate rows carry LoRA's gradient: half targets, half
            negatives, rescaled so that the gradient stays unbiased.
        source: The site's random source.
    """
    n = len(unit.items)
    positions = np.sort(source.permutation(n)[: min(targets, n)])
    drawn = draw_negatives(unit, catalogue_size, negatives, source)
    m = len(positions)
    live_targets = min(m, (lora_rows + 1) // 2)
    live_negatives = min(negatives, lora_rows - live_targets)
    order = source.permutation(m)
    items = unit.items[positions[order]]
    candidates = np.concatenate(
        [items[:live_targets], drawn[:live_negatives], items[live_targets:], drawn[live_negatives:]]
    )
    columns = np.arange(m)
    columns[live_targets:] += live_negatives
    scale = np.concatenate(
        [
            np.full(live_targets, m / max(live_targets, 1), dtype=np.float32),
            np.full(live_negatives, negatives / max(live_negatives, 1), dtype=np.float32),
        ]
    )
    return Contribution(unit, positions[order], candidates, columns, scale)


def collate(contributions: Sequence[Contribution], *, max_history: int) -> UnitBatch:
    """Pads contributions of a step to one batch; B ≥ 1."""
    batch = len(contributions)
    width = max(1, max(min(len(c.unit.items), max_history) for c in contributions))
    m = max(len(c.positions) for c in contributions)
    n = max(len(c.candidates) for c in contributions)
    live = max(len(c.live_scale) for c in contributions)
    history = np.zeros((batch, width), dtype=np.int64)
    history_mask = np.zeros((batch, width), dtype=bool)
    positions, target_items, columns = (np.zeros((batch, m), dtype=np.int64) for _ in range(3))
    target_mask = np.zeros((batch, m), dtype=bool)
    ratings = np.zeros((batch, m), dtype=np.float32)
    candidates = np.zeros((batch, n), dtype=np.int64)
    allowed = np.zeros((batch, n), dtype=bool)
    scale = np.zeros((batch, live), dtype=np.float32)
    for row, c in enumerate(contributions):
        h, t, k = min(len(c.unit.items), width), len(c.positions), len(c.candidates)
        history[row, :h], history_mask[row, :h] = c.unit.items[:h], True
        positions[row, :t], target_mask[row, :t] = c.positions, True
        target_items[row, :t] = c.unit.items[c.positions]
        ratings[row, :t] = c.unit.ratings[c.positions]
        columns[row, :t] = c.target_columns
        candidates[row, :k] = c.candidates
        allowed[row, :k] = ~np.isin(c.candidates, c.unit.positives)
        scale[row, : len(c.live_scale)] = c.live_scale
    return UnitBatch(
        torch.from_numpy(history),
        torch.from_numpy(history_mask),
        torch.from_numpy(positions),
        torch.from_numpy(target_mask),
        torch.from_numpy(ratings),
        torch.from_numpy(target_items),
        torch.from_numpy(candidates),
        torch.from_numpy(columns),
        torch.from_numpy(allowed),
        live,
        torch.from_numpy(scale),
    )
