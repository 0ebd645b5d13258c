"""How a check of this room says what it found."""

from __future__ import annotations

from simulations.audit.finding import CheckName, Finding, View

Figures = dict[str, float | int | str | None]


def outcome(
    check: CheckName,
    name: str,
    *,
    holds: bool,
    reason: str,
    view: View = "one step",
    statistic: Figures | None = None,
    alpha: float | None = None,
    power: str = "",
) -> Finding:
    """A gate that the claim passed or not; arguments as `Finding` has them."""
    return Finding(
        check=check,
        name=name,
        view=view,
        gate=True,
        verdict="pass" if holds else "fail",
        reason=reason,
        statistic=statistic or {},
        alpha=alpha,
        power=power,
    )


def not_testable(check: CheckName, name: str, reason: str, view: View = "one step") -> Finding:
    """A gate that could not be tried on this run."""
    return Finding(
        check=check, name=name, view=view, gate=True, verdict="not_testable", reason=reason
    )
