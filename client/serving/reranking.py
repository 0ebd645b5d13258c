"""Lists with variety as a policy: ``mmr:0.5``, ``calibrated:0.03``, ``cap:0.1``.

The ways are those of `common.diverse_lists`, over the same hundred best candidates and the same
vectors as `fedrec diversity`, whose curve says what a strength costs. All of it happens at the
site: it makes no release.
"""

from __future__ import annotations

import threading
from collections import Counter, deque

import numpy as np

from client.serving.list_policy import (
    Asked,
    Candidates,
    Certain,
    Chosen,
    Greedy,
    ItemFacts,
    ListPolicy,
)
from common.diverse_lists import calibrated_list, mmr_list, wanted_shares
from common.errors import ConfigError
from common.interactions import Int64Array

DEPTH = 100
"""Candidates that are re-ranked; `fedrec diversity` has as many."""
WINDOW = 1000
"""Lists over which a cap counts."""
WAYS = ("mmr", "calibrated", "cap")


def list_policy(setting: str, window: int = WINDOW) -> ListPolicy:
    """The policy that ``WAY:STRENGTH`` names, or ``greedy``; `window` is that of a cap.

    Raises:
        ConfigError: there is no such way, or the strength is out of its range.
    """
    way, _, text = setting.partition(":")
    if setting == Greedy.name:
        return Greedy()
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if way not in WAYS or not 0 <= strength <= 1 or (way == "cap" and strength == 0):
        raise ConfigError(
            [
                "a list is greedy, mmr:S, calibrated:S (S from 0 to 1) or cap:S (above 0, to 1), "
                f"got {setting[:40]!a}; choose one, such as mmr:0.5"
            ]
        )
    if way == "cap":
        return Capped(strength, window)
    return Mmr(strength) if way == "mmr" else Calibrated(strength)


def check_facts(policy: ListPolicy, facts: ItemFacts | None) -> None:
    """Refuses genres where the catalogue has none.

    Raises:
        ConfigError: with the remedy.
    """
    if isinstance(policy, Calibrated) and facts is not None and not facts.genres.any():
        raise ConfigError(
            ["the catalogue has no genres, which calibrated lists need; choose mmr:S or cap:S"]
        )


class Mmr(Certain):
    """Items that are unlike each other (`mmr_list`)."""

    def __init__(self, strength: float) -> None:
        """0: scores alone; 1: variety alone."""
        self.name, self._strength = f"mmr:{strength:g}", strength

    def choose(self, candidates: Candidates, k: int, asked: Asked | None = None) -> Chosen:
        """Certain of every place."""
        rows, facts = _best(candidates, k), _facts(candidates)
        scores = candidates.scores[rows].astype(np.float64)
        places = mmr_list(scores, facts.vectors[candidates.items[rows]], k, self._strength)
        return _certain(rows[places])


class Calibrated(Certain):
    """Genres as the user's history has them (`calibrated_list`)."""

    def __init__(self, strength: float) -> None:
        """0: scores alone; 1: genres alone."""
        self.name, self._strength = f"calibrated:{strength:g}", strength

    def choose(self, candidates: Candidates, k: int, asked: Asked | None = None) -> Chosen:
        """Certain of every place."""
        rows, facts = _best(candidates, k), _facts(candidates)
        places = calibrated_list(
            candidates.scores[rows].astype(np.float64),
            facts.genres[candidates.items[rows]],
            wanted_shares(candidates.history, facts.genres),
            k,
            self._strength,
        )
        return _certain(rows[places])


class Capped(Certain):
    """No item in more than a share of the last lists, as long as there are others.

    `common.diverse_lists.capped_lists` decides over all users together; a service meets them
    one by one, so it counts the lists that this process handed out.
    """

    def __init__(self, share: float, window: int = WINDOW) -> None:
        """The share is above 0, to 1, of the last `window` lists."""
        self.name, self._window = f"cap:{share:g}", window
        self._most = max(1, int(share * window))
        self._lock = threading.Lock()
        self._lists: deque[tuple[int, ...]] = deque()
        self._shown: Counter[int] = Counter()
        self._facts: ItemFacts | None = None

    def choose(self, candidates: Candidates, k: int, asked: Asked | None = None) -> Chosen:
        """Certain of every place, given the lists before."""
        rows = _best(candidates, k)
        with self._lock:
            if candidates.facts is not self._facts:  # another index: places mean other items
                self._facts = candidates.facts
                self._lists.clear()
                self._shown.clear()
            shown = np.array([self._shown[int(item)] for item in candidates.items[rows]])
            worn = np.maximum(shown - self._most + 1, 0)  # 0: may still be shown
            chosen = np.sort(np.argsort(worn, kind="stable")[:k])  # the best first, as they stand
            self._count(candidates.items[rows[chosen]])
        return _certain(rows[chosen])

    def _count(self, items: Int64Array) -> None:
        self._lists.append(tuple(map(int, items)))
        self._shown.update(self._lists[-1])
        if len(self._lists) > self._window:
            self._shown.subtract(self._lists.popleft())


def _best(candidates: Candidates, k: int) -> Int64Array:
    return Greedy().choose(candidates, max(k, DEPTH)).rows


def _facts(candidates: Candidates) -> ItemFacts:
    if candidates.facts is None:
        raise ValueError("facts were not loaded")  # our own fault, no operator's
    return candidates.facts


def _certain(rows: Int64Array) -> Chosen:
    return Chosen(rows, np.ones(len(rows)))
