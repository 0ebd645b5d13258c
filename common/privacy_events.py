"""What a release cost: frozen records of the mechanism that was really run.

An event says *what was done*; `common.accounting` says what it costs. All events are for
L2-bounded (discrete) Gaussian mechanisms under add/remove of one unit, with the noise stated
relative to the L2 sensitivity. An event that no theorem covers is refused
(`UnknownEventError`), never guessed at. Modelled on ``dp_accounting/dp_event.py``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

from common.errors import PrivacyError, UnknownEventError
from common.secagg.accounting import equivalent_noise_multiplier, log_ratio


@dataclass(frozen=True)
class GaussianEvent:
    """`count` Gaussian releases in which every unit takes part.

    Attributes:
        noise_multiplier: σ, noise standard deviation ÷ L2 sensitivity; positive and finite.
        count: number of such releases, at least 1.
    """

    noise_multiplier: float
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no mechanism can have."""
        _check_noise_multiplier(self.noise_multiplier)
        _check_count("GaussianEvent.count", self.count)


@dataclass(frozen=True)
class SampledGaussianEvent:
    """`steps` Gaussian releases, each over an independent secret Poisson sample of units.

    Attributes:
        noise_multiplier: σ, noise standard deviation ÷ L2 sensitivity; positive and finite.
        sample_rate: q in (0, 1], probability with which each unit is in a step.
        steps: number of such releases, at least 1.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse values that no mechanism can have."""
        _check_noise_multiplier(self.noise_multiplier)
        _check_count("SampledGaussianEvent.steps", self.steps)
        if not 0 < self.sample_rate <= 1:
            raise PrivacyError(
                f"SampledGaussianEvent.sample_rate must be in (0, 1], got {self.sample_rate}; "
                "give the probability with which a unit is in a step"
            )


@dataclass(frozen=True)
class DistributedGaussianEvent:
    """`steps` securely summed releases, each site adding its share of discrete noise.

    Covered by the theorem of `common.secagg.accounting`: it costs what
    ``SampledGaussianEvent(noise_multiplier, sample_rate, steps)`` costs, plus `log_ratio`.

    Attributes:
        share_std: S, each site's discrete Gaussian parameter, in grid steps.
        min_honest: m, number of sites whose noise is certainly in the sum.
        sensitivity: L2 sensitivity of the integer sum, rounding included, in grid steps.
        coordinates: d, numbers per release.
        sample_rate: q in (0, 1], probability with which each unit is in a step.
        steps: number of such releases, at least 1.
    """

    share_std: int
    min_honest: int
    sensitivity: float
    coordinates: int
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse values that no mechanism can have."""
        for name in ("share_std", "min_honest", "coordinates"):
            _check_count(f"DistributedGaussianEvent.{name}", getattr(self, name))
        self.equivalent()
        self.log_ratio()

    def equivalent(self) -> SampledGaussianEvent:
        """The continuous mechanism whose cost bounds this one's, up to `log_ratio`."""
        sigma = equivalent_noise_multiplier(self.share_std, self.min_honest, self.sensitivity)
        return SampledGaussianEvent(sigma, self.sample_rate, self.steps)

    @property
    def noise_multiplier(self) -> float:
        """σ of `equivalent`."""
        return self.equivalent().noise_multiplier

    def log_ratio(self) -> float:
        """Ση: the cost is ε + 2Ση at δ·e^Ση, ε being that of `equivalent`."""
        return log_ratio(self.share_std, self.min_honest, self.coordinates, self.steps)


@dataclass(frozen=True)
class ComposedEvent:
    """Several events on the same units, one after the other (adaptively)."""

    events: tuple[PrivacyEvent, ...]


SimpleEvent: TypeAlias = GaussianEvent | SampledGaussianEvent | DistributedGaussianEvent
PrivacyEvent: TypeAlias = SimpleEvent | ComposedEvent
MergedHistory: TypeAlias = tuple[GaussianEvent | SampledGaussianEvent, ...]


def merge_events(history: Iterable[PrivacyEvent]) -> MergedHistory:
    """Flatten a history and add up equal events, in a canonical order.

    A sampled event with sample_rate 1 is a plain Gaussian and becomes one; a distributed one
    becomes its equivalent (see `history_log_ratio` for what that leaves out). Composition of
    these events does not depend on their order, so that equal multisets of releases give
    equal tuples: the key by which `common.accounting` remembers ε.

    Raises:
        UnknownEventError: an element is none of the known events.
    """
    totals: Counter[tuple[float, float]] = Counter()
    for event in _flatten(history):
        if isinstance(event, DistributedGaussianEvent):
            event = event.equivalent()
        if isinstance(event, GaussianEvent):
            totals[event.noise_multiplier, 1.0] += event.count
        else:
            totals[event.noise_multiplier, event.sample_rate] += event.steps
    return tuple(
        GaussianEvent(sigma, count) if rate == 1 else SampledGaussianEvent(sigma, rate, count)
        for (sigma, rate), count in sorted(totals.items())
    )


def history_log_ratio(history: Iterable[PrivacyEvent]) -> float:
    """Ση of all distributed events: `merge_events` is exact up to ε + 2Ση at δ·e^Ση."""
    return math.fsum(
        event.log_ratio()
        for event in _flatten(history)
        if isinstance(event, DistributedGaussianEvent)
    )


def event_to_dict(event: PrivacyEvent) -> dict[str, object]:
    """An event as plain values (JSON-able); `event_from_dict` reads it back.

    Raises:
        UnknownEventError: `event` is none of the known events.
    """
    match event:
        case GaussianEvent(noise_multiplier=sigma, count=count):
            return {"event": "gaussian", "noise_multiplier": sigma, "count": count}
        case SampledGaussianEvent(noise_multiplier=sigma, sample_rate=rate, steps=steps):
            return {
                "event": "sampled_gaussian",
                "noise_multiplier": sigma,
                "sample_rate": rate,
                "steps": steps,
            }
        case DistributedGaussianEvent():
            return {"event": "distributed_gaussian", **asdict(event)}
        case ComposedEvent(events=events):
            return {"event": "composed", "events": [event_to_dict(each) for each in events]}
        case _:
            raise _unknown(event)


def event_from_dict(value: Mapping[str, object]) -> PrivacyEvent:
    """Read an event written by `event_to_dict`.

    Raises:
        UnknownEventError: unknown kind of event, or keys or types that do not fit it.
        PrivacyError: a value that no mechanism can have (σ ≤ 0, say).
    """
    match value:
        case {"event": "gaussian", "noise_multiplier": float() | int() as sigma, "count": int(n)}:
            event: PrivacyEvent = GaussianEvent(float(sigma), n)
        case {
            "event": "sampled_gaussian",
            "noise_multiplier": float() | int() as sigma,
            "sample_rate": float() | int() as rate,
            "steps": int(n),
        }:
            event = SampledGaussianEvent(float(sigma), float(rate), n)
        case {
            "event": "distributed_gaussian",
            "share_std": int(share_std),
            "min_honest": int(min_honest),
            "sensitivity": float() | int() as sensitivity,
            "coordinates": int(coordinates),
            "sample_rate": float() | int() as rate,
            "steps": int(n),
        }:
            event = DistributedGaussianEvent(
                share_std, min_honest, float(sensitivity), coordinates, float(rate), n
            )
        case {"event": "composed", "events": list(events)} if all(
            isinstance(each, Mapping) for each in events
        ):
            event = ComposedEvent(tuple(event_from_dict(each) for each in events))
        case _:
            raise _unknown(value)
    if set(value) != set(event_to_dict(event)):
        raise _unknown(value)
    return event


def _flatten(history: Iterable[PrivacyEvent]) -> Iterable[SimpleEvent]:
    for event in history:
        match event:
            case ComposedEvent(events=events):
                yield from _flatten(events)
            case GaussianEvent() | SampledGaussianEvent() | DistributedGaussianEvent():
                yield event
            case _:
                raise _unknown(event)


def _unknown(event: object) -> UnknownEventError:
    return UnknownEventError(
        f"no theorem accounts for the privacy event {event!r:.200}; known are gaussian, "
        "sampled_gaussian, distributed_gaussian and composed; update fedrec if a newer version "
        "wrote it"
    )


def _check_noise_multiplier(sigma: float) -> None:
    if not (math.isfinite(sigma) and sigma > 0):
        raise PrivacyError(
            f"noise_multiplier of a privacy event must be positive and finite, got {sigma}; "
            "a release without noise has no event"
        )


def _check_count(name: str, count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise PrivacyError(f"{name} must be a whole number of at least 1, got {count!r}")
