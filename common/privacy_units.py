"""Privacy units: one unit becomes one bounded contribution to one step.

A unit is a user, or a training example: one target interaction with the history that the
model is shown for it (`common.unit_texts` says what that protects, and what not).

A unit's contribution holds at most `targets` of its training items, each with the history
before it, and negatives drawn inside the unit. The sampler knows only the unit's
*training* positives and draws from all other items, so a held-out item may be drawn like
any other (otherwise "never drawn as a negative" would give the test item away).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from common.context import NO_CONTEXT, ContextEncoder, UnitContext
from common.holdout import UserSplit
from common.shown_items import Shown, trained_shown
from common.unit_batch import UnitBatch as UnitBatch
from common.unit_texts import PrivacyUnit

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
    """A user's training data, or one example, cut to the most recent `max_history` + 1 items.

    Attributes:
        user_id: The site's own identifier; it never leaves the site.
        items: ``[n]`` int64 catalogue indices, oldest first.
        ratings: ``[n]`` float32.
        positives: ``[p]`` int64, sorted, never drawn as negatives: *all* training items of a
            user; of an example only its own items.
        first_target: Place of the first item that may be a target: 0 for a user, that of
            the last item for an example; what stands before it is history only.
        context: Context features of each item, should it be a target; None: there are none.
        shown: ``[s]`` int64, distinct items shown beside its clicks and not clicked, none of
            them in `positives`; None: they do not train.
    """

    user_id: str
    items: IntArray
    ratings: npt.NDArray[np.float32]
    positives: IntArray
    first_target: int = 0
    context: UnitContext | None = None
    shown: IntArray | None = None

    @property
    def counted(self) -> IntArray:
        """The items that the unit adds to popularity: an example counts its target alone."""
        return self.positives if self.first_target == 0 else self.items[self.first_target :]


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


def make_units(
    splits: Sequence[UserSplit],
    *,
    max_history: int,
    unit: PrivacyUnit = "user",
    encoder: ContextEncoder = NO_CONTEXT,
    shown: Shown | None = None,
) -> list[Unit]:
    """Turns each user's training part into units (users without training items: none).

    Args:
        splits: The users.
        max_history: Most recent items that a target is shown.
        unit: ``user``: one unit for each user. ``example``: one for each training
            interaction, with the items up to and including it; nothing in it depends on
            what came later.
        encoder: Encodes the context that goes with each item; by default there is none.
        shown: What users were shown and did not click, for units ``user`` alone.

    Raises:
        DataError: The context needs attributes of users, and the splits carry none.
    """
    if unit == "example":
        return [each for split in splits for each in _examples(split, max_history, encoder)]
    units = []
    for split in splits:
        items = split.train.items
        if len(items) == 0:
            continue
        recent = slice(max(0, len(items) - max_history - 1), len(items))
        context = encoder.of_unit(split.attributes, split.train.timestamps)
        units.append(
            Unit(
                split.user_id,
                items[recent],
                split.train.ratings[recent],
                np.unique(items),
                context=context.shown(recent) if context else None,
                shown=None if shown is None else trained_shown(split, shown),
            )
        )
    return units


def _examples(split: UserSplit, max_history: int, encoder: ContextEncoder) -> Iterator[Unit]:
    context = encoder.of_unit(split.attributes, split.train.timestamps)
    for place in range(len(split.train.items)):
        shown = slice(max(0, place - max_history), place + 1)
        items = split.train.items[shown]
        yield Unit(
            split.user_id,
            items,
            split.train.ratings[shown],
            np.unique(items),
            first_target=len(items) - 1,
            context=context.shown(shown) if context else None,
        )


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


def _unit_negatives(
    unit: Unit, catalogue_size: int, count: int, most_shown: int, source: DrawSource
) -> IntArray:
    """`count` negatives in random order: at most `most_shown` shown items, the rest drawn."""
    if unit.shown is None or len(unit.shown) == 0 or most_shown == 0:
        return draw_negatives(unit, catalogue_size, count, source)
    shown = unit.shown[source.permutation(len(unit.shown))[: min(most_shown, count)]]
    drawn = draw_negatives(unit, catalogue_size, count - len(shown), source)
    return np.concatenate([shown, drawn])[source.permutation(count)]


def draw_contribution(
    unit: Unit,
    *,
    catalogue_size: int,
    targets: int,
    negatives: int,
    lora_rows: int,
    source: DrawSource,
    shown: int = 0,
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
        shown: At most so many of the K negatives are of `unit.shown`.
    """
    n = len(unit.items) - unit.first_target
    positions = unit.first_target + np.sort(source.permutation(n)[: min(targets, n)])
    drawn = _unit_negatives(unit, catalogue_size, negatives, shown, source)
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
    arrays: dict[str, npt.NDArray[Any]] = {
        "history": history,
        "history_mask": history_mask,
        "positions": positions,
        "target_mask": target_mask,
        "ratings": ratings,
        "target_items": target_items,
        "candidates": candidates,
        "target_columns": columns,
        "others_allowed": allowed,
        "live_scale": scale,
    }
    tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return UnitBatch(**tensors, live=live, context=_collated_context(contributions, m))


def _collated_context(contributions: Sequence[Contribution], m: int) -> torch.Tensor | None:
    """``[B, m, c]``, zero where a unit has fewer targets; None where a unit has no context."""
    rows = [c.unit.context.at(c.positions) for c in contributions if c.unit.context is not None]
    if len(rows) < len(contributions):
        return None
    padded = np.zeros((len(rows), m, rows[0].shape[1]), dtype=np.float32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return torch.from_numpy(padded)
