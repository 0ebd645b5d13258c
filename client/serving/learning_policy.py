"""A policy that learns at the site: from its log and from feedback, in batches.

What it has learned is a function of the two databases: it is built anew every `LEARN_S` seconds,
after a restart, and when another adapter is served, so that no state of its own can be lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from client.serving.choice_log import Choice, ChoiceLog, Place
from client.serving.exploration import (
    DRAWS,
    Exploration,
    Floats,
    Pool,
    inclusion,
    pool_rows,
)
from client.serving.feedback import Event, FeedbackStore
from client.serving.list_policy import Asked, Candidates, Chosen
from client.serving.policy_settings import PolicySettings
from client.serving.reward_model import Posterior, RewardModel, embeddings_of
from client.serving.served import Served
from client.serving.site_take_rate import site_take_rate
from client.serving.take_rate import TakeRate
from common.errors import FedrecError

LEARN_S = 60.0

logger = logging.getLogger("fedrec-site")


class _State(NamedTuple):
    served: Served
    rate: TakeRate
    embeddings: Floats
    posterior: Posterior


class LearningPolicy:
    """`ListPolicy` over a reward model; within its ``with`` block it goes on learning."""

    def __init__(self, settings: PolicySettings, log: ChoiceLog, feedback: FeedbackStore) -> None:
        """Has learned nothing until `prepare`."""
        self._settings, self._log, self._feedback = settings, log, feedback
        self._exploration: Exploration = settings.exploration
        self.name: str = self._exploration.name
        self._state: _State | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep_learning, name="learner", daemon=True)

    def __enter__(self) -> LearningPolicy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def prepare(self, served: Served) -> None:
        """Fits the take rate of its scores and learns from the log."""
        width = served.index.vectors.shape[1] - len(served.index.terms.softening)
        embeddings = embeddings_of(served.index.vectors[:, width:].numpy())
        self._learn(served, site_take_rate(served), embeddings)

    def choose(self, candidates: Candidates, k: int, asked: Asked | None = None) -> Chosen:
        """A list by what is believed of the candidates; logged where somebody is to see it."""
        state = self._state
        if state is None:
            raise RuntimeError("prepare comes first")  # our own fault
        mean, spread, rates = _believed(state, candidates)
        kept = pool_rows(mean, spread)
        pool, before = Pool(mean[kept], spread[kept]), self._log.shown
        rng = np.random.default_rng()
        rows = self._exploration.draw(pool, k, before, rng)
        chances = self._exploration.chances(pool, k, before, rng)
        standing, place = inclusion(chances)[rows], chances[np.arange(len(rows)), rows]
        if self._exploration.name == "thompson":  # this list is one more draw
            standing, place = ((DRAWS * part + 1) / (DRAWS + 1) for part in (standing, place))
        chosen = Chosen(kept[rows], place)
        if asked is not None and len(rows):
            items, ids = candidates.items[chosen.rows], asked.served.items.item_ids
            places = [
                Place(ids[item], int(row), float(rate), float(chance), float(stands))
                for item, row, rate, chance, stands in zip(
                    items, rows, rates[chosen.rows], place, standing, strict=True
                )
            ]
            self._keep(
                Choice(
                    asked.recommendation_id,
                    asked.user,
                    int(time.time()),
                    self.name,
                    before,
                    places,
                    pool,
                )
            )
        return chosen

    def learn(self) -> None:
        """Builds the reward model anew from all that is logged."""
        if self._state is not None:
            self._learn(self._state.served, self._state.rate, self._state.embeddings)

    def _learn(self, served: Served, rate: TakeRate, embeddings: Floats) -> None:
        items = served.items
        model = RewardModel(
            embeddings, np.arange(len(items)) >= len(items.catalogue), self._settings.beliefs
        )
        choices, damaged = self._log.choices()
        if damaged:
            logger.warning("%d damaged lists in the choice log are left out", damaged)
        seen = outcomes(
            choices, list(self._feedback.events()), int(time.time()), self._settings.settle_seconds
        )
        known = [
            (items.places[place.item_id], place.rate, reward)
            for choice, rewards in zip(choices, seen, strict=True)
            for place, reward in zip(choice.places, rewards, strict=True)
            if reward is not None and place.item_id in items.places
        ]
        if known:
            at, rates, rewards = (np.array(column) for column in zip(*known, strict=True))
            model.learn(at.astype(np.int64), rates.astype(np.float64), rewards.astype(np.float64))
        self._state = _State(served, rate, embeddings, model.posterior())

    def _keep(self, choice: Choice) -> None:
        try:
            self._log.append(choice)
        except FedrecError as error:  # the list is good; only nothing is learned from it
            logger.error("a list is not logged: %s", error)

    def _keep_learning(self) -> None:
        while not self._end.wait(LEARN_S):
            try:
                self.learn()
            except Exception:  # what was learned before goes on being used
                logger.exception("cannot learn from the log")


def outcomes(
    choices: Sequence[Choice], events: Sequence[Event], now: int, settle_seconds: int
) -> list[list[float | None]]:
    """For each place 1 (taken), 0 (dismissed, or nothing heard of it in time) or None (too early).

    Args:
        choices: lists.
        events: feedback; only what names its list counts.
        now: unix seconds.
        settle_seconds: after which nothing more is waited for.
    """
    kinds: dict[tuple[str, str], str] = {}
    for event in events:
        named = event.recommendation_id, event.item_id
        if event.recommendation_id and kinds.get(named) != "taken":
            kinds[named] = event.kind
    found: list[list[float | None]] = []
    for choice in choices:
        silent = 0.0 if now - choice.at >= settle_seconds else None
        heard = [kinds.get((choice.recommendation_id, place.item_id)) for place in choice.places]
        found.append([silent if kind is None else float(kind == "taken") for kind in heard])
    return found


def _believed(state: _State, candidates: Candidates) -> tuple[Floats, Floats, Floats]:
    """Means, spreads and take rates of the candidates, ``[C]`` each."""
    at, posterior = candidates.items, state.posterior
    rates = state.rate.of(candidates.scores)
    of_these = posterior._replace(
        level=posterior.level[at], linear=posterior.linear[at], constant=posterior.constant[at]
    )
    mean, spread = of_these.predict(rates)
    return mean, spread, rates
