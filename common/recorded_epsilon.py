"""Every site's ε, recomputed from the events of a `releases.jsonl` alone, beside the recorded.

Nothing else is read: no configuration, no ledger, no total that the file states. A recorded
total may be above the recomputed one, since a ledger may hold earlier releases; below it, it
under-reports.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.accounting import Accountant, epsilon
from common.errors import PrivacyError
from common.privacy_events import event_from_dict
from common.release_record import ReleaseRecord

AGREEMENT = 0.02
ACCOUNTANTS: tuple[Accountant, ...] = ("prv", "rdp", "pld")
RELATION = "add_or_remove_one"


@dataclass(frozen=True)
class SiteSpending:
    """What one site spent according to its releases, and what it recorded.

    Attributes:
        site: its name.
        unit: the privacy unit that its records state.
        delta: δ that its records state.
        recomputed: ε by each accountant; infinite where something left without noise.
        recorded: totals after its last charged release, by PRV and RDP; None: none stated.
        releases: number of charged releases.
        lab_only: number of exact metrics that only a simulation's lab sees; not covered.
        sampling: how units were chosen.
        seeded: whether noise came from a seed, which voids the guarantee.
    """

    site: str
    unit: str
    delta: float
    recomputed: dict[Accountant, float]
    recorded: dict[Accountant, float | None]
    releases: int
    lab_only: int
    sampling: str
    seeded: bool

    def fault(self) -> str | None:
        """Which recorded ε is more than 0.02 below the recomputed one, or None."""
        for name, recorded in self.recorded.items():
            truth = self.recomputed[name]
            if recorded is None and (math.isinf(truth) or self.releases == 0):
                continue  # no claim was made
            if recorded is None or recorded < truth - AGREEMENT:
                stated = "no ε" if recorded is None else f"ε={recorded:.4f}"
                return (
                    f"{self.site} recorded {stated}, its releases cost ε={truth:.4f} "
                    f"({name.upper()}, δ={self.delta:g}, unit {self.unit}, add or remove one, "
                    f"{self.sampling})"
                )
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "site": self.site,
            "unit": self.unit,
            "neighbouring_relation": RELATION,
            "delta": self.delta,
            "sampling": self.sampling,
            "recomputed": {name: finite(value) for name, value in self.recomputed.items()},
            "recorded": dict(self.recorded),
            "releases": self.releases,
            "lab_only": self.lab_only,
            "insecure_seeded_noise": self.seeded,
            "fault": self.fault(),
        }


def finite(value: float | None) -> float | None:
    """JSON has no infinity: null stands for an unbounded ε, and for an unknown one."""
    return None if value is None or value == float("inf") else value


def spending_by_site(releases: Sequence[ReleaseRecord]) -> list[SiteSpending]:
    """Recompute what every site of `releases` spent, by site name.

    Args:
        releases: all lines of a `releases.jsonl`, in order.

    Raises:
        PrivacyError: a site states totals at several δ or of several units.
        UnknownEventError: an event that no theorem covers.
    """
    by_site: dict[str, list[ReleaseRecord]] = defaultdict(list)
    for record in releases:
        by_site[record.site].append(record)
    return [_spending(site, by_site[site]) for site in sorted(by_site)]


def check_recorded(sites: Sequence[SiteSpending]) -> None:
    """Refuse a file in which a site recorded less than it spent.

    Raises:
        PrivacyError: with the first such site; says how many there are.
    """
    faults = [fault for site in sites if (fault := site.fault()) is not None]
    if faults:
        raise PrivacyError(
            f"{len(faults)} of {len(sites)} sites recorded less than was spent; {faults[0]}; "
            "do not trust these records"
        )


def _spending(site: str, records: Sequence[ReleaseRecord]) -> SiteSpending:
    charged = [record for record in records if record.mechanism != "exact_lab_only"]
    stated = {(record.unit, record.delta) for record in charged or records}
    if len(stated) > 1:
        several = ", ".join(f"unit {unit} at δ={delta:g}" for unit, delta in sorted(stated))
        raise PrivacyError(
            f"{site} states its totals in several ways ({several}); recompute the runs one by one"
        )
    (unit, delta), last = stated.pop(), charged[-1] if charged else None
    return SiteSpending(
        site=site,
        unit=unit,
        delta=delta,
        recomputed={name: _recomputed(charged, delta, name) for name in ACCOUNTANTS},
        recorded={
            "prv": None if last is None else last.epsilon_prv,
            "rdp": None if last is None else last.epsilon_rdp,
        },
        releases=len(charged),
        lab_only=len(records) - len(charged),
        sampling=_sampling(charged),
        seeded=any(record.insecure_seeded_noise for record in records),
    )


def _recomputed(charged: Sequence[ReleaseRecord], delta: float, name: Accountant) -> float:
    events = [event_from_dict(record.event) for record in charged if record.event is not None]
    if len(events) < len(charged):
        return math.inf
    return epsilon(events, delta, name) if events else 0.0


def _sampling(charged: Sequence[ReleaseRecord]) -> str:
    rates = sorted({r.sample_rate for r in charged if r.event is not None and r.sample_rate < 1})
    if not rates:
        return "every unit in every release"
    shown = ", ".join(f"{rate:.4g}" for rate in rates)
    return f"secret Poisson sampling at rate {shown} per step, else every unit"
