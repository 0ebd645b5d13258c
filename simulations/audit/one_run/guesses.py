"""What an auditor guesses about the canaries of one run, and how often that was right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.errors import PrivacyError
from simulations.audit.binomial_bounds import Bools, Floats


@dataclass(frozen=True)
class Guesses:
    """The outcome of the guessing game, all that the bounds look at.

    Attributes:
        canaries: m, each in the run with probability ½, independently.
        made: r, guesses made; the other canaries were abstained from.
        right: v, guesses that were right.
    """

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        """Refuse counts that no game can have."""
        if not 0 <= self.right <= self.made <= self.canaries:
            raise PrivacyError(
                "a canary audit needs 0 <= right <= made <= canaries, got "
                f"{self.right}, {self.made}, {self.canaries}; count the guesses again"
            )


def guess(scores: Floats, included: Bools, guessed_in: int, guessed_out: int) -> Guesses:
    """Guess "in" for the highest scores and "out" for the lowest.

    How many is fixed beforehand: choosing the numbers that look best afterwards is threshold
    shopping, which no bound of this package covers. Equal scores are taken in the canaries'
    order, which knows nothing of what was included.

    Args:
        scores: [m] of the canaries, higher where they seem to have been in.
        included: [m] the secret bits.
        guessed_in: k₊, number of "in" guesses.
        guessed_out: k₋, number of "out" guesses.

    Raises:
        PrivacyError: shapes differ, a score is NaN, or more guesses than canaries.
    """
    if scores.ndim != 1 or scores.shape != included.shape:
        raise PrivacyError(
            f"canary scores {scores.shape} and inclusion bits {included.shape} must be two "
            "vectors of one length; give one of each per canary"
        )
    if np.isnan(scores).any():
        raise PrivacyError(f"{int(np.isnan(scores).sum())} canary scores are NaN; score them again")
    if min(guessed_in, guessed_out) < 0 or guessed_in + guessed_out > len(scores):
        raise PrivacyError(
            f"cannot guess {guessed_in} in and {guessed_out} out of {len(scores)} canaries; "
            "the two must be non-negative and at most all of them together"
        )
    order = np.argsort(-scores, kind="stable")
    right = included[order[:guessed_in]].sum()
    right += (~included[order[len(order) - guessed_out :]]).sum()
    return Guesses(len(scores), guessed_in + guessed_out, int(right))
