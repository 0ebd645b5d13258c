"""A6: who was in the run? Three attacks on the released adapter, each scoring whole users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.initial_adapter import initial_adapter
from common.privacy_units import Unit
from simulations.audit.attacks.released_model import ReleasedModel, user_losses
from simulations.audit.binomial_bounds import Floats
from simulations.audit.finding import Finding
from simulations.audit.membership_audit import MembershipEvidence, audit_membership
from simulations.audit.membership_scores import calibrated_scores, loss_scores, rmia_scores
from simulations.audit.one_run.trade_off import TradeOff

OFFLINE_A = 1.0
"""p̄ = p_out: a user's mean likelihood hardly moves, so a reference without the user is the
average over worlds. Fixed before any result."""

GAMMA = 1.0
"""Of RMIA. Any other value would order the users the same way, up to the ends."""

ACCEPTS = (
    "at the threshold that 1% of the non-members exceed, the Clopper–Pearson lower bound on the "
    "true positive rate is at most 1 − f at the upper bound on the false positive rate, each at α/2"
)
GATES = {
    f"membership.{attack}": f"{words}: {ACCEPTS}"
    for attack, words in (
        ("loss", "users with the smallest training loss"),
        ("calibrated_loss", "users whose loss fell most below the untrained adapter's"),
        (
            "rmia",
            "users that dominate the others by likelihood ratio (offline RMIA, "
            f"γ = {GAMMA:g}, a = {OFFLINE_A:g})",
        ),
    )
}
"""The statistics, thresholds and constants stand in the audit log before anything is scored."""

_MOST_LOSS = 700.0  # e^-700 is still a float


@dataclass(frozen=True)
class People:
    """Whom the attacks tell apart.

    Attributes:
        members: users whose data the run trained on.
        others: users of the same population that it did not.
    """

    members: Sequence[Unit]
    others: Sequence[Unit]


@dataclass(frozen=True)
class References:
    """Models that were trained on neither members nor `People.others`.

    Attributes:
        models: made by the run's own recipe; none: the untrained adapter stands in.
        others_left: users of `People.others` that no reference was trained on, by place.
        note: one sentence on what the likelihood ratio is taken against.
    """

    models: tuple[ReleasedModel, ...]
    others_left: Sequence[int]
    note: str


def audit_members(
    target: ReleasedModel,
    people: People,
    references: References,
    claimed: TradeOff | None,
    alpha: float,
) -> tuple[Finding, ...]:
    """The three gates.

    Args:
        target: the attacked model.
        people: who is told apart.
        references: of RMIA.
        claimed: trade-off curve of the claim for a user; None: reported only.
        alpha: of each gate.

    Raises:
        PrivacyError: fewer than two members or others, or losses that are not finite.
    """
    base = target.with_adapter(initial_adapter(target.config))
    members, others = user_losses(target, people.members), user_losses(target, people.others)
    base_members, base_others = user_losses(base, people.members), user_losses(base, people.others)
    left = np.asarray(references.others_left, dtype=np.int64)
    if references.models:
        out = [user_losses(model, people.members) for model in references.models]
        out_others = [user_losses(model, people.others)[left] for model in references.models]
    else:
        out, out_others = [base_members], [base_others[left]]
    likely_others = _likelihood(others[left])
    reference, reference_others = _likelihood(np.array(out)), _likelihood(np.array(out_others))

    def rmia(likely: Floats, likely_out: Floats) -> Floats:
        return rmia_scores(likely, likely_out, likely_others, reference_others, OFFLINE_A, GAMMA)

    scores = {
        "loss": (loss_scores(members), loss_scores(others)),
        "calibrated_loss": (
            calibrated_scores(members, base_members),
            calibrated_scores(others, base_others),
        ),
        # The others stand as the population, too.
        "rmia": (rmia(_likelihood(members), reference), rmia(likely_others, reference_others)),
    }
    found = []
    for attack, (inside, outside) in scores.items():
        finding = audit_membership(
            MembershipEvidence(inside, outside, attack, "the final adapter", claimed), alpha
        )
        if attack == "rmia":
            figures = {**finding.statistic, "references": len(references.models)}
            reason = f"{finding.reason}; {references.note}"
            finding = finding.model_copy(update={"reason": reason, "statistic": figures})
        found.append(finding)
    return tuple(found)


def _likelihood(losses: Floats) -> Floats:
    """The geometric mean of the likelihoods of a user's items, in (0, 1]."""
    return np.exp(-np.clip(losses, 0.0, _MOST_LOSS))
