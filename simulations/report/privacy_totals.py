"""Totals of ε per site, recomputed from what `releases.jsonl` says was done.

Every figure is a total over all releases of a site; there is no ε of a single round here.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, get_epsilon_gaussian
from dp_accounting.pld import PLDAccountant

from common.accounting import epsilon
from common.privacy_events import GaussianEvent, PrivacyEvent, event_from_dict
from common.release_record import ReleaseRecord

_NOISED = ("gaussian", "sampled_gaussian", "discrete_gaussian")
AGREEMENT = 0.02  # |PRV - PLD| that two correct accountants may show

Charge = tuple[float, float, int]  # (noise multiplier, sample rate, steps)


@dataclass(frozen=True)
class EpsilonLine:
    """One total by three accountants; infinite where no noise was added."""

    label: str
    prv: float
    rdp: float
    pld: float


@dataclass(frozen=True)
class SiteTotals:
    """What a user of one site spent over all releases of the run.

    Attributes:
        site: its name.
        recorded_prv, recorded_rdp: totals of the site's ledger after its last release; they
            also hold what the ledger was charged before this run. None without a claim.
        lines: recomputed totals of this run: updates without amplification, updates with
            Poisson sampling, and all releases.
        releases: number of charged releases.
        bytes_up: bytes of all its releases.
    """

    site: str
    recorded_prv: float | None
    recorded_rdp: float | None
    lines: tuple[EpsilonLine, EpsilonLine, EpsilonLine]
    releases: int
    bytes_up: int

    @property
    def total(self) -> EpsilonLine:
        """The line over all releases: the promise."""
        return self.lines[2]


def site_totals(releases: Sequence[ReleaseRecord], delta: float) -> list[SiteTotals]:
    """Total the charged releases of each site.

    PRV and RDP start from the recorded events; PLD starts from the recorded (σ, q, steps) by
    `dp_accounting`, without this project's accounting code, so that the two check each other.

    Args:
        releases: all lines of `releases.jsonl`.
        delta: δ of the statement.

    Returns:
        One entry per site, by name.
    """
    by_site: dict[str, list[ReleaseRecord]] = defaultdict(list)
    for record in releases:
        by_site[record.site].append(record)
    return [_totals(site, by_site[site], delta) for site in sorted(by_site)]


def charged(releases: Sequence[ReleaseRecord]) -> list[ReleaseRecord]:
    """Keep what went through a noise mechanism; exact lab metrics are stated elsewhere."""
    return [record for record in releases if record.mechanism != "exact_lab_only"]


def is_noised(record: ReleaseRecord) -> bool:
    """Whether the release was noised and charged with an event."""
    return record.mechanism in _NOISED and record.event is not None


def _totals(site: str, releases: Sequence[ReleaseRecord], delta: float) -> SiteTotals:
    kept = charged(releases)
    updates = [record for record in kept if record.kind == "update"]
    recorded = [record for record in kept if record.epsilon_prv is not None]
    return SiteTotals(
        site=site,
        recorded_prv=recorded[-1].epsilon_prv if recorded else None,
        recorded_rdp=recorded[-1].epsilon_rdp if recorded else None,
        lines=(
            _line("adapter updates, no amplification by sampling", updates, delta, full=True),
            _line("adapter updates, with Poisson sampling", updates, delta),
            _line("all releases over all rounds (the promise)", kept, delta),
        ),
        releases=len(kept),
        bytes_up=sum(record.bytes for record in releases),
    )


def _line(
    label: str, releases: Sequence[ReleaseRecord], delta: float, *, full: bool = False
) -> EpsilonLine:
    if not all(is_noised(record) for record in releases):
        return EpsilonLine(label, math.inf, math.inf, math.inf)
    events = [_event(record, full) for record in releases]
    charges = Counter[tuple[float, float]]()
    for record in releases:
        rate = 1.0 if full or record.mechanism == "gaussian" else record.sample_rate
        charges[(record.noise_multiplier, rate)] += record.steps
    merged = tuple((sigma, rate, steps) for (sigma, rate), steps in sorted(charges.items()))
    return EpsilonLine(
        label=label,
        prv=epsilon(events, delta, "prv"),
        rdp=epsilon(events, delta, "rdp"),
        pld=pld_epsilon(merged, delta),
    )


def _event(record: ReleaseRecord, full: bool) -> PrivacyEvent:
    if full:
        return GaussianEvent(noise_multiplier=record.noise_multiplier, count=record.steps)
    return event_from_dict(record.event or {})


@lru_cache(maxsize=256)
def pld_epsilon(charges: tuple[Charge, ...], delta: float) -> float:
    """Compose (σ, q, steps) charges by privacy loss distributions and return ε(δ).

    Args:
        charges: merged charges; q = 1 means that every unit took part.
        delta: δ in (0, 1).

    Returns:
        ε of add/remove one; 0 without charges.
    """
    if not charges:
        return 0.0
    sampled = [(sigma, rate, steps) for sigma, rate, steps in charges if rate < 1.0]
    precision = sum(steps / sigma**2 for sigma, rate, steps in charges if rate >= 1.0)
    if not sampled:  # Gaussians compose into one, whose ε(δ) is exact (Balle & Wang, 2018)
        return float(get_epsilon_gaussian(1.0 / math.sqrt(precision), delta))
    accountant = PLDAccountant()
    if precision:
        accountant.compose(GaussianDpEvent(1.0 / math.sqrt(precision)))
    for sigma, rate, steps in sampled:
        accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), steps)
    return float(accountant.get_epsilon(delta))
