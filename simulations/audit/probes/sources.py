"""Sources of randomness that only the audit makes, in its own process.

The production code takes its source as an argument and makes it itself; no configuration,
message or file can name one of these.
"""

from __future__ import annotations

import numpy as np

from common.randomness import Floats, Integers, RandomSource, secure_source, seeded_source

_UNUSED_KEY = bytes(32)


class FrozenSource(RandomSource):
    """Repeats its draws, also where one more unit stands at the end.

    Uniforms (the Poisson sample) and draws within a unit come from streams of their own, so
    that the units that two data sets share draw the same in both.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(_UNUSED_KEY, fork_safe=False)
        self._seed, self._samples = seed, 0
        self._draws = seeded_source(seed, "audit", "draws")

    def uniform(self, n: int) -> Floats:
        """Of the k-th call always the same numbers, more of them for a larger n."""
        self._samples += 1
        return seeded_source(self._seed, "audit", "uniform", self._samples).uniform(n)

    def integers(self, high: int, n: int) -> Integers:
        """One stream in the order of the calls."""
        return self._draws.integers(high, n)

    def permutation(self, n: int) -> Integers:
        """One stream in the order of the calls."""
        return self._draws.permutation(n)


class CountingSource(RandomSource):
    """Gaussian noise that is counted: real, repeated, or none at all.

    Attributes:
        asked: how many numbers each call asked for.
    """

    def __init__(self, *, seed: int | None = None, silent: bool = False) -> None:
        """Silent: zeros. Otherwise seeded with `seed`, or secure where there is none."""
        super().__init__(_UNUSED_KEY, fork_safe=False)
        self.asked: list[int] = []
        self._silent = silent
        self._real = secure_source() if seed is None else seeded_source(seed, "audit", "noise")

    def normal(self, n: int) -> Floats:
        """Standard normal numbers, or zeros."""
        self.asked.append(n)
        return np.zeros(n) if self._silent else self._real.normal(n)
