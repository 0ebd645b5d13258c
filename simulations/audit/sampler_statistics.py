"""A3: is the sampler the Poisson sampler that the accountant was told of?

Every test counts independent events whose probability is known exactly under the claim (each
unit in each step with probability q, independently), and compares with a binomial: the false
alarm rates hold for any number of steps, units and any q, without a limit theorem. What is
counted:

- ``inclusions``: all of them, against Binomial(T·N, q): a wrong q.
- ``favoured_unit``: each unit's own count, Bonferroni over units: a unit that is drawn too
  often or never.
- ``unit_spread``: units whose count lies within 1.5 deviations of T·q: counts more equal, as
  a shuffling sampler makes them, or less equal than chance.
- ``batch_spread``: steps whose size lies within 1.5 deviations of N·q: fixed batch sizes.
- ``once_per_epoch``: (unit, epoch of 1/q steps) pairs with exactly one inclusion: shuffling.
- ``lag_1`` … ``lag_3``: units in two steps that far apart, over disjoint pairs of steps:
  memory of the last steps.
- ``gap_1``, ``gap_short``: the first gap between a unit's inclusions in a window, a geometric
  variable: a sampler that avoids or repeats whom it has just drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from common.errors import PrivacyError
from simulations.audit.binomial_bounds import Bools, check_alpha, two_sided_p_value
from simulations.audit.finding import Finding

_LAGS = (1, 2, 3)
_WIDTH = 1.5  # deviations; near the most sensitive width for a wrong spread


@dataclass(frozen=True, eq=False)
class SamplerTrace:
    """Who was in which step of the real sampler.

    Attributes:
        included: [T, N] one site's units over T steps; or sites over rounds.
        sample_rate: q in (0, 1] that the accountant was told.
        what: what is sampled, for the reader: "units" or "sites".
    """

    included: Bools
    sample_rate: float
    what: str = "units"

    def __post_init__(self) -> None:
        """Refuse a trace that says nothing."""
        if self.included.ndim != 2 or self.included.size == 0 or self.included.dtype != np.bool_:
            raise PrivacyError(
                f"a sampler's trace must be a boolean [steps, {self.what}], got "
                f"{self.included.dtype} {self.included.shape}; record at least one step"
            )
        if not 0 < self.sample_rate <= 1:
            raise PrivacyError(f"the claimed sample rate must be in (0, 1], got {self.sample_rate}")


@dataclass(frozen=True)
class Count:
    """`seen` of `trials` independent events of probability `probability` under the claim."""

    name: str
    what: str
    seen: int
    trials: int
    probability: float

    @property
    def p_value(self) -> float:
        """Exact and two-sided; 1 where nothing could be counted."""
        return two_sided_p_value(self.seen, self.trials, self.probability)


def audit_sampler(trace: SamplerTrace, alpha: float) -> tuple[Finding, ...]:
    """All tests of the module, or the exact one where everybody is always in (q = 1).

    Args:
        trace: from the real sampler; thousands of steps.
        alpha: probability that *any* of the findings fails a correct sampler.

    Returns:
        One finding per test, each at its share of α.

    Raises:
        PrivacyError: α outside (0, 1).
    """
    check_alpha(alpha)
    if trace.sample_rate == 1:
        return (_full_participation(trace),)
    counts = sampler_counts(trace)
    share = alpha / (len(counts) + 1)
    return (_favoured_unit(trace, share), *(_finding(count, share) for count in counts))


def sampler_counts(trace: SamplerTrace) -> tuple[Count, ...]:
    """What the binomial tests count, in the module's order, `favoured_unit` apart."""
    x, rate = trace.included, trace.sample_rate
    steps, units = x.shape
    return (
        Count("inclusions", "inclusions", int(x.sum()), x.size, rate),
        _central("unit_spread", f"{trace.what} with a usual count", x.sum(axis=0), steps, rate),
        _central("batch_spread", "steps of a usual size", x.sum(axis=1), units, rate),
        _once_per_epoch(x, rate),
        *(_repeats(x, rate, lag) for lag in _LAGS),
        *_gaps(x, rate),
    )


def _central(name: str, what: str, counts: np.ndarray, trials: int, rate: float) -> Count:
    width = _WIDTH * math.sqrt(trials * rate * (1 - rate))
    low, high = math.ceil(trials * rate - width), math.floor(trials * rate + width)
    inside = binom.cdf(high, trials, rate) - binom.cdf(low - 1, trials, rate)
    seen = int(((counts >= low) & (counts <= high)).sum())
    return Count(name, what, seen, len(counts), min(1.0, float(inside)))


def _once_per_epoch(x: Bools, rate: float) -> Count:
    length = max(2, round(1 / rate))
    epochs = len(x) // length
    drawn = x[: epochs * length].reshape(epochs, length, x.shape[1]).sum(axis=1)
    once = float(binom.pmf(1, length, rate))
    what = f"epochs of {length} steps with exactly one inclusion"
    return Count("once_per_epoch", what, int((drawn == 1).sum()), drawn.size, once)


def _repeats(x: Bools, rate: float, lag: int) -> Count:
    """Disjoint pairs (t, t + lag): independent, so that the count is exactly binomial."""
    blocks = len(x) // (2 * lag)
    pairs = x[: blocks * 2 * lag].reshape(blocks, 2, lag, x.shape[1])
    both = pairs[:, 0] & pairs[:, 1]
    return Count(
        f"lag_{lag}", f"inclusions repeated {lag} steps later", int(both.sum()), both.size, rate**2
    )


def _gaps(x: Bools, rate: float) -> tuple[Count, Count]:
    """First gaps in windows: it starts in a window's first half, and is cut at half a window.

    Where it starts says nothing of how long it is, so that gaps are independent and geometric.
    """
    half = max(2, round(2 / rate))
    windows = len(x) // (2 * half)
    view = x[: windows * 2 * half].reshape(windows, 2 * half, x.shape[1])
    begun = view[:, :half].any(axis=1)
    start = view[:, :half].argmax(axis=1)
    later = np.arange(2 * half)[:, None] > start[:, None, :]
    gap = (view & later).argmax(axis=1) - start  # negative: none in this window
    short = max(2, round(0.7 / rate))  # about the median of a gap
    lengths = gap[begun]
    lengths = np.where((lengths > 0) & (lengths <= half), lengths, 2 * half)
    below = 1 - (1 - rate) ** short
    return (
        Count("gap_1", "gaps of one step", int((lengths == 1).sum()), len(lengths), rate),
        Count(
            "gap_short",
            f"gaps of at most {short} steps",
            int((lengths <= short).sum()),
            len(lengths),
            below,
        ),
    )


def _favoured_unit(trace: SamplerTrace, alpha: float) -> Finding:
    steps, units = trace.included.shape
    counts = trace.included.sum(axis=0)
    tails = np.minimum(
        binom.cdf(counts, steps, trace.sample_rate), binom.sf(counts - 1, steps, trace.sample_rate)
    )
    worst = int(tails.argmin())
    chance = min(1.0, 2 * units * float(tails[worst]))
    return Finding(
        check="A3",
        name="sampler.favoured_unit",
        view="one step",
        gate=True,
        verdict="fail" if chance < alpha else "pass",
        reason=(
            f"the oddest of {units} {trace.what} was in {counts[worst]} of {steps} steps, "
            f"{steps * trace.sample_rate:.4g} expected: p = {chance:.2g} over all {trace.what}"
        ),
        statistic={"number": worst, "count": int(counts[worst]), "steps": steps, "p_value": chance},
        alpha=alpha,
        confidence=1 - alpha,
        power=_power(steps, trace.sample_rate, alpha / units, "count of one of them"),
    )


def _finding(count: Count, alpha: float) -> Finding:
    chance = count.p_value
    testable = count.trials > 0 and 0 < count.probability < 1
    return Finding(
        check="A3",
        name=f"sampler.{count.name}",
        view="one step",
        gate=True,
        verdict="fail" if chance < alpha else "pass" if testable else "not_testable",
        reason=(
            f"{count.seen} {count.what} of {count.trials}, "
            f"{count.trials * count.probability:.6g} expected: p = {chance:.2g}"
            if testable
            else f"nothing to count: too few steps for {count.what}"
        ),
        statistic={
            "seen": count.seen,
            "trials": count.trials,
            "expected": count.trials * count.probability,
            "p_value": chance,
        },
        alpha=alpha,
        confidence=1 - alpha,
        power=_power(count.trials, count.probability, alpha, "rate") if testable else "",
    )


def _power(trials: int, probability: float, alpha: float, what: str) -> str:
    """The relative error at which a test of this size fails half of the time."""
    expected = trials * probability
    low, high = binom.ppf([alpha / 2, 1 - alpha / 2], trials, probability)
    below, above = low / expected - 1, high / expected - 1
    return f"a {what} off by {below:+.1%} or {above:+.1%} fails every other time"


def _full_participation(trace: SamplerTrace) -> Finding:
    missing = int(trace.included.size - trace.included.sum())
    return Finding(
        check="A3",
        name="sampler.full_participation",
        view="one step",
        gate=True,
        verdict="fail" if missing else "pass",
        reason=(
            f"{trace.included.size - missing} of {trace.included.size} inclusions that full "
            f"participation needs ({trace.included.shape[0]} steps, {trace.what} "
            f"{trace.included.shape[1]})"
        ),
        statistic={"missing": missing, "expected": trace.included.size},
        power="exact: a single missing inclusion fails",
    )
