"""A6: which items does one site's update name?

The attacker knows the model that the update was made on, and made-up users that go from some
history to an item. How fast a step along the update lowers such a user's loss is the inner
product of the update with that user's gradient. An exact update is a sum of its own users'
gradients, so that the items they really went to come first; noise of the size that a private
site adds has no such preference. The first guesses come from histories drawn at random, the
second from the items that were guessed first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from common.adapters import Adapter
from common.context import ContextEncoder, UnitContext
from common.errors import PrivacyError
from common.interactions import Int64Array
from common.privacy_units import Unit
from simulations.audit.attacks.released_model import ReleasedModel, user_losses
from simulations.audit.binomial_bounds import Floats
from simulations.audit.membership_statistics import Interval, auc

STEP = 0.01
"""Length of the step along the update, in the adapter's own numbers."""

HISTORIES = 2
"""Made-up histories that each item is tried with, each time."""

DRAWN = 40
"""Items in a history at first, drawn from all."""

GUESSED = 20
"""Items in a history then: those that were guessed first."""


def item_scores(start: ReleasedModel, update: Adapter, seed: int = 0) -> Floats:
    """How much the update speaks for each item, ``[V]``.

    Args:
        start: the model that the site received.
        update: what the site released for it; zero says nothing of any item.
        seed: of the made-up histories.
    """
    squares = (np.square(tensor.astype(np.float64)).sum() for tensor in update.values())
    length = math.sqrt(sum(float(each) for each in squares))
    size = len(start.catalogue)
    if length == 0:
        return np.zeros(size)
    back, forth = (_moved(start, update, way / length) for way in (-STEP, STEP))
    rng = np.random.default_rng(seed)
    shown, scores = np.arange(size), np.zeros(size)
    most = start.config.model.max_history
    for longest in (DRAWN, GUESSED):
        histories = [rng.permutation(shown)[: min(longest, most)] for _ in range(HISTORIES)]
        users = [_going_to(start, item, each) for each in histories for item in range(size)]
        lowered = user_losses(back, users) - user_losses(forth, users)
        scores = lowered.reshape(HISTORIES, size).mean(axis=0)
        shown = np.argsort(-scores, kind="stable")[:GUESSED]
    return scores


def _moved(start: ReleasedModel, update: Adapter, factor: float) -> ReleasedModel:
    return start.with_adapter(
        {
            name: (tensor + factor * update[name]).astype(np.float32)
            for name, tensor in start.adapter.items()
        }
    )


def _going_to(start: ReleasedModel, item: int, history: Int64Array) -> Unit:
    encoder, length = ContextEncoder.of(start.config.model), len(history) + 1
    empty = UnitContext(
        np.zeros(encoder.buckets, np.float32), np.zeros((length, encoder.times), np.float32)
    )
    return Unit(
        "",
        np.append(history, item),
        np.ones(length, np.float32),
        np.array([item]),
        first_target=length - 1,
        context=empty if encoder.width else None,
    )


@dataclass(frozen=True)
class Reconstruction:
    """How well updates named the items behind them.

    Attributes:
        sites: number of updates.
        area: mean over updates of the AUC of the own items among the catalogue, with Student's
            95% interval over updates.
        precision: share of own items among as many of the highest scores, mean.
        chance: what guessing would reach.
        popularity: mean AUC of the public popularity alone.
    """

    sites: int
    area: Interval
    precision: float
    chance: float
    popularity: float


def judge(
    scores: Sequence[Floats], own: Sequence[Int64Array], popularity: Floats
) -> Reconstruction:
    """Hold the scores of some updates against the items that were behind them.

    Args:
        scores: [V] of each update.
        own: distinct items behind each.
        popularity: [V] the public prior.

    Raises:
        PrivacyError: fewer than two updates.
    """
    if len(scores) < 2:
        raise PrivacyError(
            f"reconstruction needs at least two updates for an interval, got {len(scores)}; add "
            "sites"
        )
    size = len(popularity)
    inside = np.zeros((len(own), size), dtype=bool)
    for row, items in zip(inside, own, strict=True):
        row[items] = True
    areas = [auc(s[i], s[~i]).value for s, i in zip(scores, inside, strict=True)]
    floor = [auc(popularity[i], popularity[~i]).value for i in inside]
    pairs = zip(scores, inside, strict=True)
    hits = [i[np.argsort(-s, kind="stable")[: i.sum()]].mean() for s, i in pairs]
    mean = float(np.mean(areas))
    half = float(stdtrit(len(areas) - 1, 0.975) * np.std(areas, ddof=1) / math.sqrt(len(areas)))
    return Reconstruction(
        sites=len(areas),
        area=Interval(mean, max(0.0, mean - half), min(1.0, mean + half)),
        precision=float(np.mean(hits)),
        chance=float(inside.mean()),
        popularity=float(np.mean(floor)),
    )
