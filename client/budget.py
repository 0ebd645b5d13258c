"""The limits that a projected total ε is held against."""

from __future__ import annotations

from typing import NamedTuple

from common.errors import BudgetRefusal


class RunLimit(NamedTuple):
    """A limit of one run's own total."""

    run: str
    delta: float
    max_epsilon: float


def refuse_beyond(who: str, projected: float, delta: float, max_epsilon: float) -> None:
    """Raises `BudgetRefusal` if `projected` passes `max_epsilon`, or is no number."""
    if not projected <= max_epsilon:
        raise BudgetRefusal(
            f"privacy budget: this release would bring {who} to ε={projected:.4f} at "
            f"δ={delta:g}, over its limit of ε={max_epsilon:g}; nothing was trained or "
            "released; the site's operator may raise the limit, or ask for more noise"
        )
