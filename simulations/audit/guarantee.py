"""The guarantee as an auditor restates it: ε under several readings of one release log."""

from __future__ import annotations

from collections.abc import Sequence

from common.accounting import epsilon
from common.privacy_events import event_from_dict
from common.recorded_epsilon import finite
from common.release_record import ReleaseRecord
from simulations.audit.evidence import Evidence
from simulations.audit.independent_epsilon import (
    Charges,
    charges_of,
    is_sampled,
    pld_epsilon,
    several_records_epsilon,
    without_amplification,
    without_replacement_epsilon,
)
from simulations.report.interval_record import Record
from simulations.report.privacy_totals import charged, is_noised

PROFILE_DELTAS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
RECORDS = (2, 5, 10)


class Line(Record):
    """One reading of the releases: ε (null: unbounded), and what it assumes."""

    name: str
    epsilon: float | None
    assumes: str


class ProfilePoint(Record):
    """One pair of the privacy profile."""

    delta: float
    epsilon: float | None


class Charged(Record):
    """One line of the accountants' input."""

    noise_multiplier: float
    sample_rate: float
    steps: int


class Guarantee(Record):
    """ε of the site that spent most, at the run's δ.

    Attributes:
        site: its name.
        delta: δ.
        charges: what every line was computed from.
        lines: unit-level without amplification, with Poisson sampling, and user-level.
        beside: other relations, samplers and accountants, and what was recorded.
        profile: (δ, ε) pairs of the promise, each a guarantee by itself (PLD).
    """

    site: str
    delta: float
    charges: tuple[Charged, ...]
    lines: tuple[Line, ...]
    beside: tuple[Line, ...]
    profile: tuple[ProfilePoint, ...]


def own_releases(evidence: Evidence) -> dict[str, list[ReleaseRecord]]:
    """The charged releases of every site, by site."""
    found: dict[str, list[ReleaseRecord]] = {}
    for record in charged(evidence.releases):
        found.setdefault(record.site, []).append(record)
    return dict(sorted(found.items()))


def guarantee(evidence: Evidence) -> Guarantee | None:
    """Restate the guarantee; None where something left a site without noise, or nothing left."""
    by_site = own_releases(evidence)
    if not by_site or not all(is_noised(r) for own in by_site.values() for r in own):
        return None
    delta = evidence.config.privacy.target_delta
    spent = {site: pld_epsilon(charges_of(own), delta) for site, own in by_site.items()}
    site = max(spent, key=lambda name: (spent[name], name))
    own, charges = by_site[site], charges_of(by_site[site])
    return Guarantee(
        site=site,
        delta=delta,
        charges=tuple(Charged(noise_multiplier=s, sample_rate=q, steps=n) for s, q, n in charges),
        lines=_lines(charges, delta, evidence.config.privacy.unit),
        beside=_beside(own, charges, delta),
        profile=tuple(
            ProfilePoint(delta=each, epsilon=finite(pld_epsilon(charges, each)))
            for each in PROFILE_DELTAS
        ),
    )


def _line(name: str, epsilon: float, assumes: str) -> Line:
    return Line(name=name, epsilon=finite(epsilon), assumes=assumes)


def _lines(charges: Charges, delta: float, unit: str) -> tuple[Line, ...]:
    poisson = pld_epsilon(charges, delta)
    amplified = (
        "each step's sample is drawn by Poisson sampling and stays secret"
        if is_sampled(charges)
        else "no step is sampled: the same as without amplification"
    )
    lines = [
        _line(
            f"{unit}-level, no amplification",
            pld_epsilon(without_amplification(charges), delta),
            f"every {unit} takes part in every release",
        ),
        _line(f"{unit}-level, Poisson sampling", poisson, amplified),
    ]
    if unit == "user":
        return (*lines, _line("user-level", poisson, "the unit is the user"))
    several = [
        _line(
            f"user-level, a user with {k} examples",
            several_records_epsilon(charges, delta, k),
            f"all {k} of the user's examples are added or removed, sampled one by one",
        )
        for k in RECORDS
    ]
    return (*lines, *several)


def _beside(own: Sequence[ReleaseRecord], charges: Charges, delta: float) -> tuple[Line, ...]:
    events = [event_from_dict(record.event or {}) for record in own]
    promised = "add or remove one, sampling as stated"
    beside = [
        _line("PLD", pld_epsilon(charges, delta), promised),
        _line("PRV, recomputed", epsilon(events, delta, "prv"), promised),
        _line("RDP, recomputed", epsilon(events, delta, "rdp"), promised),
        _line(
            "PLD, replace one",
            pld_epsilon(charges, delta, "replace_one"),
            "one unit's data are replaced by another's, sampling as stated",
        ),
    ]
    if is_sampled(charges):
        without = _line(
            "RDP, without replacement",
            without_replacement_epsilon(charges, delta),
            "steps of a fixed size drawn without replacement; replace one, σ relative to what "
            "one replacement changes",
        )
        beside.append(without)
    for name, recorded in (("PRV", own[-1].epsilon_prv), ("RDP", own[-1].epsilon_rdp)):
        if recorded is not None:
            total = "total of the site's ledger after its last release"
            beside.append(_line(f"{name}, recorded", recorded, total))
    return tuple(beside)
