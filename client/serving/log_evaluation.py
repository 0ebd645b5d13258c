"""Another policy, judged by a site's own log (`client.serving.off_policy`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from client.serving.choice_log import CHOICES_FILE, Choice, ChoiceLog
from client.serving.exploration import Exploration, inclusion
from client.serving.feedback import FEEDBACK_FILE, FeedbackStore
from client.serving.learning_policy import outcomes
from client.serving.off_policy import Logged, OffPolicy, evaluate
from common.errors import RunFolderError


class FromLog(NamedTuple):
    """What a site's log says.

    Attributes:
        found: the estimates.
        policies: that the log's lists were chosen by.
        damaged: rows that were left out.
        waiting: lists whose feedback is still waited for, left out too.
    """

    found: OffPolicy
    policies: list[str]
    damaged: int
    waiting: int


def evaluate_log(folder: Path, policy: Exploration, settle_seconds: int) -> FromLog:
    """What `policy` would have earned in the place of those that chose.

    It sees the means, spreads and pools that the log's policy saw: what it would have learned
    from its own lists is not part of the estimate.

    Args:
        folder: ``SITE/serving``.
        policy: the other one.
        settle_seconds: after which a place without feedback counts as not taken.

    Raises:
        RunFolderError: there is no log.
        DataError: no list of it can be used.
    """
    for name in (CHOICES_FILE, FEEDBACK_FILE):
        if not (folder / name).is_file():
            raise RunFolderError(
                f"{folder} has no {name}: only lists of a policy that explores are logged; serve "
                "with `fedrec-site serve --policy thompson` first"
            )
    with closing(ChoiceLog(folder, read_only=True)) as log:
        choices, damaged = log.choices()
    with closing(FeedbackStore(folder)) as feedback:
        events = list(feedback.events())
    rewards = outcomes(choices, events, int(time.time()), settle_seconds)
    settled = [place for place, each in enumerate(rewards) if None not in each]
    used = [choices[place] for place in settled]
    logged = logged_places(used, [_numbers(rewards[place]) for place in settled], policy)
    return FromLog(
        evaluate(logged),
        sorted({choice.policy for choice in used}),
        damaged,
        len(choices) - len(used),
    )


def logged_places(
    choices: Sequence[Choice], rewards: Sequence[Sequence[float]], policy: Exploration
) -> Logged:
    """The log's places beside `policy`'s chances for them, in the same pools."""
    wanted, worth = [], []
    for choice in choices:
        chances = inclusion(policy.chances(choice.pool, len(choice.places), choice.before))
        wanted.append(chances[[place.row for place in choice.places]])
        worth.append(float(chances @ choice.pool.mean))
    names = [choice.user or choice.recommendation_id for choice in choices]
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    lengths = [len(choice.places) for choice in choices]
    means = [choice.pool.mean[place.row] for choice in choices for place in choice.places]
    return Logged(
        lists=np.repeat(np.arange(len(choices)), lengths),
        users=np.array([number[name] for name in names], dtype=np.int64),
        rewards=np.array([each for row in rewards for each in row], dtype=np.float64),
        logged=np.array([place.inclusion for choice in choices for place in choice.places]),
        wanted=np.concatenate([*wanted, np.zeros(0)]),
        expected=np.array(means, dtype=np.float64),
        worth=np.array(worth, dtype=np.float64),
    )


def _numbers(rewards: Sequence[float | None]) -> list[float]:
    return [reward for reward in rewards if reward is not None]
