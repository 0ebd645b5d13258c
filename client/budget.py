"""The limits that a projected total ε is held against, and what is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from client.policy import SitePolicy
from common.accounting import epsilon
from common.errors import BudgetRefusal
from common.privacy_events import PrivacyEvent


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


def declared_left(history: Sequence[PrivacyEvent], policy: SitePolicy) -> float | None:
    """What `history` leaves of the site's limit, if the site declares it.

    Nothing private: it follows from the policy and from what was released.
    """
    if not policy.declare_epsilon_left:
        return None
    return max(policy.max_epsilon - epsilon(history, policy.max_delta), 0.0)
