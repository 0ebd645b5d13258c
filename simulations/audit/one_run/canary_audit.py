"""A5: the canaries of one run, guessed, against what the run claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binom

from common.accounting import epsilon
from common.errors import PrivacyError
from common.privacy_events import PrivacyEvent
from simulations.audit.binomial_bounds import Bools, Floats, two_sided_p_value
from simulations.audit.finding import Finding, Verdict, View
from simulations.audit.one_run import f_dp, steinke
from simulations.audit.one_run.guesses import Guesses, guess
from simulations.audit.one_run.trade_off import TradeOff, claimed_trade_off

_NO_COIN = 1e-6


@dataclass(frozen=True, eq=False)
class CanaryEvidence:
    """One run's canaries, and everything that was fixed before they were scored.

    Attributes:
        scores: [m] higher where a canary seems to have been in.
        included: [m] the secret bits, fair coins, independent.
        guessed_in: k₊.
        guessed_out: k₋.
        history: the releases that the run claims for a unit.
        delta: δ of the claim.
        view: what the scores were computed from.
        score: name of the score.
    """

    scores: Floats
    included: Bools
    guessed_in: int
    guessed_out: int
    history: Sequence[PrivacyEvent]
    delta: float
    view: View
    score: str

    def __post_init__(self) -> None:
        """Refuse bits that were no fair coins: both bounds rest on that."""
        chance = two_sided_p_value(int(self.included.sum()), len(self.included), 0.5)
        if chance < _NO_COIN:
            raise PrivacyError(
                f"{int(self.included.sum())} of {len(self.included)} canaries were included: no "
                "fair coins; include each canary with probability one half, independently"
            )


def audit_canaries(evidence: CanaryEvidence, alpha: float) -> tuple[Finding, Finding]:
    """Both one-run bounds on the same guesses.

    Args:
        evidence: of one run.
        alpha: probability of a false alarm of *each* finding, corrected by the caller.

    Returns:
        `canaries.one_run` (Steinke et al., no assumption) and `canaries.f_dp` (Mahloujifar et
        al., gated on the claimed curve; its ε is that of the Gaussian family). A gate that
        would not have failed with every guess right is "not_testable".

    Raises:
        PrivacyError: evidence that does not fit together, or an empty history.
    """
    seen = guess(evidence.scores, evidence.included, evidence.guessed_in, evidence.guessed_out)
    return _one_run(seen, evidence, alpha), _f_dp(seen, evidence, alpha)


def _one_run(seen: Guesses, evidence: CanaryEvidence, alpha: float) -> Finding:
    claimed = epsilon(evidence.history, evidence.delta)
    found = steinke.epsilon_lower_bound(seen, evidence.delta, alpha)
    ceiling = steinke.power_ceiling(seen.canaries, seen.made, evidence.delta, alpha)
    return Finding(
        check="A5",
        name="canaries.one_run",
        view=evidence.view,
        gate=True,
        verdict=_verdict(found > claimed, ceiling > claimed),
        reason=(
            f"{seen.right} of {seen.made} guesses about {seen.canaries} canaries were right: "
            f"ε ≥ {found:.3g} against a claim of {claimed:.3g}"
        ),
        statistic={
            **_counts(seen, evidence),
            "p_value": steinke.p_value(seen, claimed, evidence.delta),
            "claimed_epsilon": _finite(claimed),
            "power_ceiling": ceiling,
        },
        alpha=alpha,
        epsilon_lower_bound=found,
        confidence=1 - alpha,
        power=(
            f"with every guess right it would have shown ε ≥ {ceiling:.3g}"
            + ("" if ceiling > claimed else ", which is below the claim: it could not have failed")
        ),
    )


def _f_dp(seen: Guesses, evidence: CanaryEvidence, alpha: float) -> Finding:
    curve = claimed_trade_off(evidence.history)
    found = f_dp.gaussian_epsilon_lower_bound(seen, evidence.delta, alpha)
    needed = least_right_guesses(seen.canaries, seen.made, curve, alpha)
    return Finding(
        check="A5",
        name="canaries.f_dp",
        view=evidence.view,
        gate=True,
        verdict=_verdict(f_dp.refutation(seen, curve, alpha) > 0, needed is not None),
        reason=(
            f"{seen.right} of {seen.made} guesses about {seen.canaries} canaries were right; the "
            + ("claimed curve allows any number" if needed is None else f"claim falls at {needed}")
        ),
        statistic={
            **_counts(seen, evidence),
            "p_value": f_dp.p_value(seen, curve),
            "least_right_to_refute": needed,
            "model": "Gaussian; the ε is model-conditional, the verdict is not",
        },
        alpha=alpha,
        epsilon_lower_bound=found,
        confidence=1 - alpha,
        power=(
            "with every guess right it would not have failed"
            if needed is None
            else f"it would have failed from {needed} right guesses of {seen.made} on"
        ),
    )


def least_right_guesses(canaries: int, made: int, curve: TradeOff, alpha: float) -> int | None:
    """The fewest right guesses that refute `curve`; None where not even all of them do."""
    if f_dp.refutation(Guesses(canaries, made, made), curve, alpha) <= 0:
        return None
    low, high = -1, made  # zero right guesses may refute nothing: then low stays
    while high - low > 1:
        middle = (low + high) // 2
        refuted = f_dp.refutation(Guesses(canaries, made, middle), curve, alpha) > 0
        low, high = (low, middle) if refuted else (middle, high)
    return high


def _verdict(refuted: bool, testable: bool) -> Verdict:
    if refuted:
        return "fail"
    return "pass" if testable else "not_testable"


def _counts(seen: Guesses, evidence: CanaryEvidence) -> dict[str, float | int | str | None]:
    return {
        "canaries": seen.canaries,
        "guessed_in": evidence.guessed_in,
        "guessed_out": evidence.guessed_out,
        "guesses": seen.made,
        "right": seen.right,
        "right_by_chance": float(binom.sf(seen.right - 1, seen.made, 0.5)),
        "score": evidence.score,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
