"""Settings are chosen on validation worlds: each policy gets the best of one small grid.

Beliefs (how far offsets of items may be from 0) are part of the grid of every policy, greedy's
too, so that no policy wins by better beliefs alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from client.serving.exploration import Exploration, PolicyName
from client.serving.reward_model import Beliefs

BELIEFS = (
    Beliefs(known=0.02, new=0.1, shared=0.02),
    Beliefs(known=0.03, new=0.1, shared=0.05),
    Beliefs(known=0.03, new=0.1, shared=0.02),
    Beliefs(known=0.05, new=0.15, shared=0.05),
)
POLICIES = (
    Exploration("greedy"),
    Exploration("epsilon_greedy", 0.02),
    Exploration("epsilon_greedy", 0.05, 0.0, 500),
    Exploration("epsilon_greedy", 0.1, 0.0, 500),
    Exploration("ucb", 0.25),
    Exploration("ucb", 0.5, 0.0, 1000),
    Exploration("ucb", 1.0, 0.0, 500),
    Exploration("thompson", 0.5),
    Exploration("thompson", 1.0, 0.0, 500),
    Exploration("thompson", 1.0, 0.0, 1500),
)


@dataclass(frozen=True)
class Setting:
    """A policy with what its reward model believes at first."""

    policy: Exploration
    beliefs: Beliefs


def grid() -> Iterator[Setting]:
    """All settings that are tried."""
    for policy, beliefs in product(POLICIES, BELIEFS):
        yield Setting(policy, beliefs)


def best_settings(rewards: dict[Setting, float]) -> dict[PolicyName, Setting]:
    """Of each policy the setting with the largest mean reward; of equal ones the first."""
    best: dict[PolicyName, Setting] = {}
    for setting, reward in rewards.items():
        name = setting.policy.name
        if name not in best or reward > rewards[best[name]]:
            best[name] = setting
    return best
