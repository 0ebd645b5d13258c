"""A6: an attack's scores of users against what the run claims."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.audit.binomial_bounds import Floats
from simulations.audit.finding import Finding, View
from simulations.audit.membership_statistics import Interval, RatePoint, auc, rate_at
from simulations.audit.one_run.trade_off import TradeOff

GATE_RATE = 0.01


@dataclass(frozen=True, eq=False)
class MembershipEvidence:
    """One attack's scores on members and on others drawn from the same people.

    Attributes:
        members: [n] scores of users that were trained on.
        others: [n'] scores of held-out users.
        attack: its name: `loss`, `calibrated_loss`, `rmia`.
        view: what the attack saw.
        claimed: trade-off curve of the claim; None where the run claims nothing (ε = ∞).
    """

    members: Floats
    others: Floats
    attack: str
    view: View
    claimed: TradeOff | None


def audit_membership(evidence: MembershipEvidence, alpha: float) -> Finding:
    """The gate: members are not recognised at 1% FPR more often than the claim allows.

    It fails where the lower bound on TPR is above 1 − f at the *upper* bound on FPR, each at
    α/2: the nominal 1% is only an estimate of the threshold's rate.

    Raises:
        PrivacyError: fewer than two of either, or NaN.
    """
    area = auc(evidence.members, evidence.others)
    point = rate_at(evidence.members, evidence.others, GATE_RATE, alpha)
    rare = rate_at(evidence.members, evidence.others, 0.001)
    allowed = None
    if evidence.claimed is not None and point is not None:
        allowed = 1 - evidence.claimed.least_miss_rate(point.false_alarm_bound)
    failed = allowed is not None and point is not None and point.true_positives.low > allowed
    return Finding(
        check="A6",
        name=f"membership.{evidence.attack}",
        view=evidence.view,
        gate=True,
        verdict="fail" if failed else "pass" if allowed is not None else "not_testable",
        reason=_reason(evidence, area, point, allowed),
        statistic={
            "members": len(evidence.members),
            "others": len(evidence.others),
            "auc": area.value,
            "auc_low": area.low,
            "auc_high": area.high,
            **_rates("tpr_at_1_percent", point),
            **_rates("tpr_at_0.1_percent", rare),
            "tpr_allowed": allowed,
            "tpr_allowed_at_1_percent": None
            if evidence.claimed is None
            else 1 - evidence.claimed.least_miss_rate(GATE_RATE),
        },
        alpha=alpha,
        confidence=1 - alpha,
        power="" if allowed is None else f"a true positive rate well above {allowed:.3g} fails",
    )


def _reason(
    evidence: MembershipEvidence, area: Interval, point: RatePoint | None, allowed: float | None
) -> str:
    seen = f"AUC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}]"
    if point is None:
        return f"{seen}; 1% FPR is unsupported by {len(evidence.others)} non-members"
    hits = point.true_positives
    seen += f", TPR at 1% FPR {hits.value:.3f} [{hits.low:.3f}, {hits.high:.3f}]"
    if allowed is None:
        return f"{seen}; the run claims nothing that this could refute"
    return f"{seen}; the claim allows {allowed:.3f}"


def _rates(name: str, point: RatePoint | None) -> dict[str, float | int | str | None]:
    if point is None:
        return {name: "unsupported"}
    hits = point.true_positives
    return {
        name: hits.value,
        f"{name}_low": hits.low,
        f"{name}_high": hits.high,
        f"{name}_fpr_bound": point.false_alarm_bound,
    }
