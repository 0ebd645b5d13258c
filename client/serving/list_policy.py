"""The choice of a list among scored candidates.

A policy sees candidates, their scores, and the history that they were scored for; and what is
public of the items. What it returns says with which probability each place went to its item, which
whoever learns from the lists needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from common.interactions import Float32Array, Int64Array

if TYPE_CHECKING:
    from client.serving.served import Served


class ItemFacts(NamedTuple):
    """What is public of V items, for policies that read more than scores.

    Attributes:
        vectors: float64 ``[V, d]`` of the items' texts, as `fedrec diversity` reads them.
        genres: float64 ``[V, G]`` (`common.diverse_lists.genre_shares`); G is 0 without any.
    """

    vectors: npt.NDArray[np.float64]
    genres: npt.NDArray[np.float64]


class Candidates(NamedTuple):
    """What may be offered to one user.

    Attributes:
        items: int64 ``[C]``, places of items, rising.
        scores: float32 ``[C]``, finite.
        history: int64 ``[n]``, places of items, oldest first.
        facts: of all items; None where they were not loaded (`WhatToServe.with_facts`).
    """

    items: Int64Array
    scores: Float32Array
    history: Int64Array = np.zeros(0, dtype=np.int64)
    facts: ItemFacts | None = None


class Chosen(NamedTuple):
    """A list.

    Attributes:
        rows: int64 ``[n]``, rows of the candidates, best place first; n ≤ k.
        propensities: float64 ``[n]``.
    """

    rows: Int64Array
    propensities: npt.NDArray[np.float64]


class Asked(NamedTuple):
    """What a policy that keeps a log has to know of a list.

    Attributes:
        recommendation_id: names the list in feedback.
        user: as the site's tables have the id; empty for a visitor.
        served: what scored the candidates.
    """

    recommendation_id: str
    user: str
    served: Served


class ListPolicy(Protocol):
    """Chooses; thread-safe.

    Attributes:
        name: as answers and logs have it.
    """

    name: str

    def choose(self, candidates: Candidates, k: int, asked: Asked | None = None) -> Chosen:
        """A list of the k items that this user is to see, or of all candidates if fewer.

        Args:
            candidates: what may be offered.
            k: length of the list.
            asked: None: nobody is to see the list, and nothing is logged.
        """

    def prepare(self, served: Served) -> None:
        """Hears what scores from now on, before the first list of it."""


class Certain:
    """A policy that leaves nothing to chance and keeps no log."""

    def prepare(self, served: Served) -> None:
        """Needs nothing."""


class Greedy(Certain):
    """The k best scores; of equal ones the item that stands first in the catalogue."""

    name = "greedy"

    def choose(self, candidates: Candidates, k: int, asked: Asked | None = None) -> Chosen:
        """Certain of every place; logs nothing."""
        scores = candidates.scores
        rows = np.arange(len(scores))
        if k < len(rows):  # all that could stand in the list, ties of its last place among them
            bound = np.partition(scores, len(scores) - k)[len(scores) - k]
            rows = np.flatnonzero(scores >= bound)
        best = rows[np.argsort(-scores[rows], kind="stable")][:k]
        return Chosen(best.astype(np.int64), np.ones(len(best)))
