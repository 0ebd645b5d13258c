"""What leaves a site, and the record that says what it cost.

Everything that leaves is a release: it is built here, charged to the ledger together with
its exact bytes, and only then handed to the transport.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from client.budget import RunLimit, declared_left
from client.ledger import Ledger
from client.policy import SitePolicy
from common.accounting import epsilon
from common.adapters import Adapter, adapter_bytes
from common.config import RunConfig
from common.errors import PolicyRefusal
from common.privacy_events import (
    DistributedGaussianEvent,
    GaussianEvent,
    PrivacyEvent,
    SampledGaussianEvent,
    SimpleEvent,
    event_to_dict,
)
from common.privacy_units import Unit
from common.randomness import RandomSource
from common.release_record import Mechanism, ReleaseKind, ReleaseRecord
from common.tensor_files import Tensors, tensors_from_bytes, tensors_to_bytes

RECORD_KEY = "release"
PART_TENSOR = "part"
Sampling = Literal["poisson", "full", "none"]


@dataclass(frozen=True)
class ReleasePlan:
    """A release that was asked for: what it is, and the event that it will cost.

    Attributes:
        run: Name of the run.
        server_round: Round, 0 for the releases before training.
        kind: What is released.
        event: The event to charge; None in mode `none`.
        divisor: Public constant that the sum is divided by.
        max_grad_norm: L2 bound of one unit's contribution.
        stage: Of a release of metrics; a round has two of them at its end.
    """

    run: str
    server_round: int
    kind: ReleaseKind
    event: SimpleEvent | None
    divisor: float
    max_grad_norm: float
    stage: str = ""

    @property
    def key(self) -> tuple[str, int, str]:
        """The ledger's key: the same release asked for twice is one release."""
        kind = f"{self.kind}:{self.stage}" if self.stage else self.kind
        return (self.run, self.server_round, kind)


def stored_release(ledger: Ledger, plan: ReleasePlan) -> tuple[Adapter, ReleaseRecord] | None:
    """The identical bytes and record of a release that was already charged, if any."""
    found = ledger.find(plan.key)
    return None if found is None else _unpacked(ledger, plan, found)


def enforce_budget(ledger: Ledger, plan: ReleasePlan, policy: SitePolicy) -> None:
    """Hold a release against the policy and the budget, before anything is trained.

    Raises:
        PolicyRefusal: the policy does not allow such a release.
        BudgetRefusal: the site's or the run's total ε would pass its limit.
    """
    _check_unit(ledger, policy.unit)
    policy.check_release(plan.kind, plan.event)
    if plan.event is not None:
        most = policy.max_epsilon_per_run
        run_limit = None if most is None else RunLimit(plan.run, policy.run_delta, most)
        ledger.enforce(plan.event, policy.max_delta, policy.max_epsilon, run_limit)


def charge_release(
    ledger: Ledger,
    plan: ReleasePlan,
    tensors: Adapter,
    config: RunConfig,
    site: str,
    policy: SitePolicy,
) -> tuple[Adapter, ReleaseRecord]:
    """Commits charge and bytes in one transaction; returns what may be sent.

    A release that another process charged meanwhile wins: its bytes are returned.

    Raises:
        PolicyRefusal: the ledger is charged for another unit.
    """
    content = adapter_bytes(tensors)
    sha256 = hashlib.sha256(content).hexdigest()  # `adapter_sha256`
    payload = _Payload(sorted(tensors), len(content), sha256)
    with ledger.held():
        record = _record(ledger, plan, payload, config, site, policy)
        return _charged(ledger, plan, tensors, record)


def stored_sum(ledger: Ledger, plan: ReleasePlan) -> tuple[bytes, ReleaseRecord] | None:
    """As `stored_release`, of a site's part in a sum."""
    found = ledger.find(plan.key)
    if found is None:
        return None
    tensors, record = _unpacked(ledger, plan, found)
    return tensors[PART_TENSOR].tobytes(), record


def charge_sum(
    ledger: Ledger,
    plan: ReleasePlan,
    part: bytes,
    names: list[str],
    config: RunConfig,
    site: str,
    policy: SitePolicy,
) -> tuple[bytes, ReleaseRecord]:
    """As `charge_release`, of a site's encoded part in a sum of the tensors `names`."""
    payload = _Payload(names, len(part), sha256=hashlib.sha256(part).hexdigest())
    tensors = {PART_TENSOR: np.frombuffer(part, dtype=np.uint8)}
    with ledger.held():
        record = _record(ledger, plan, payload, config, site, policy)
        charged, record = _charged(ledger, plan, tensors, record)
    return charged[PART_TENSOR].tobytes(), record


def _charged(
    ledger: Ledger, plan: ReleasePlan, tensors: Tensors, record: ReleaseRecord
) -> tuple[dict[str, Any], ReleaseRecord]:
    outgoing = tensors_to_bytes(tensors, {RECORD_KEY: record.model_dump_json()})
    committed = ledger.charge(plan.key, plan.event, outgoing, record.model_dump(mode="json"))
    return _unpacked(ledger, plan, committed)


def _unpacked(
    ledger: Ledger, plan: ReleasePlan, outgoing: bytes
) -> tuple[dict[str, Any], ReleaseRecord]:
    """The tensors and the record inside a release's outgoing bytes.

    The checkpoint covers these bytes and can therefore not be in them: it joins the record
    from the ledger, the same one at every retry.
    """
    tensors, metadata = tensors_from_bytes(outgoing)
    record = ReleaseRecord.model_validate_json(metadata[RECORD_KEY])
    checkpoint = ledger.checkpoint(plan.key).model_dump(mode="json")
    return dict(sorted(tensors.items())), record.model_copy(
        update={"ledger_checkpoint": checkpoint}
    )


def noisy_popularity(
    units: Sequence[Unit],
    catalogue_size: int,
    *,
    noise_multiplier: float,
    noise: RandomSource | None,
) -> npt.NDArray[np.float32]:
    """Popularity counts ``[V]``, each unit's counted items normalised to L2 norm 1.

    A user counts all training items together; an example adds 1 to its target's count.

    Guarantee: adding or removing one unit changes the sum by at most 1 in L2, so Gaussian
    noise of standard deviation `noise_multiplier` is a Gaussian event of that multiplier.
    Without `noise` the counts are exact (mode `none`).
    """
    counts = unit_popularity(units, catalogue_size)
    if noise is not None:
        counts += noise_multiplier * noise.normal(catalogue_size)
    return counts.astype(np.float32)


def unit_popularity(units: Sequence[Unit], catalogue_size: int) -> npt.NDArray[np.float64]:
    """Exact counts ``[V]``, each unit's training items normalised to L2 norm 1."""
    counts = np.zeros(catalogue_size, dtype=np.float64)
    for unit in units:
        counts[unit.counted] += 1.0 / np.sqrt(len(unit.counted))
    return counts


class _Payload(NamedTuple):
    """What a record states of the released bytes."""

    names: list[str]
    size: int
    sha256: str


def _check_unit(ledger: Ledger, unit: str) -> None:
    if ledger.unit != unit:
        raise PolicyRefusal(
            f"ledger {ledger.path} is charged per {ledger.unit}, and cannot be charged per {unit}; "
            f"run with privacy.unit={ledger.unit}"
        )


def _record(
    ledger: Ledger,
    plan: ReleasePlan,
    payload: _Payload,
    config: RunConfig,
    site: str,
    policy: SitePolicy,
) -> ReleaseRecord:
    privacy, event = config.privacy, plan.event
    _check_unit(ledger, privacy.unit)
    after = [*ledger.history(), event] if event is not None else None
    return ReleaseRecord(
        site=site,
        run=plan.run,
        server_round=plan.server_round,
        kind=plan.kind,
        mode=privacy.mode,
        mechanism=_mechanism(event),
        noise_multiplier=0.0 if event is None else event.noise_multiplier,
        max_grad_norm=plan.max_grad_norm,
        sample_rate=1.0 if event is None or isinstance(event, GaussianEvent) else event.sample_rate,
        steps=1 if event is None or isinstance(event, GaussianEvent) else event.steps,
        unit=privacy.unit,
        sampling=_sampling(plan),
        divisor=plan.divisor,
        tensors=payload.names,
        bytes=payload.size,
        payload_sha256=payload.sha256,
        event=None if event is None else event_to_dict(event),
        epsilon_prv=None if after is None else epsilon(after, privacy.target_delta, "prv"),
        epsilon_rdp=None if after is None else epsilon(after, privacy.target_delta, "rdp"),
        delta=privacy.target_delta,
        epsilon_left=None if after is None else declared_left(after, policy),
        insecure_seeded_noise=privacy.insecure_seeded_noise,
    )


def _mechanism(event: PrivacyEvent | None) -> Mechanism:
    match event:
        case None:
            return "none"
        case DistributedGaussianEvent():
            return "discrete_gaussian"
        case SampledGaussianEvent():
            return "sampled_gaussian"
        case _:
            return "gaussian"


def _sampling(plan: ReleasePlan) -> Sampling:
    if plan.event is None:
        return "none"
    return "poisson" if plan.kind == "update" else "full"
