"""What leaves a site, and the record that says what it cost.

Everything that leaves is a release: it is built here, charged to the ledger together with
its exact bytes, and only then handed to the transport.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from client.budget import RunLimit
from client.ledger import Ledger
from client.policy import SitePolicy
from client.randomness import RandomSource
from common.accounting import epsilon
from common.adapters import Adapter, adapter_bytes, adapter_sha256
from common.config import RunConfig
from common.errors import PolicyRefusal
from common.privacy_events import (
    GaussianEvent,
    PrivacyEvent,
    SampledGaussianEvent,
    event_to_dict,
)
from common.privacy_units import Unit
from common.release_record import Mechanism, ReleaseKind, ReleaseRecord
from common.tensor_files import tensors_from_bytes, tensors_to_bytes

RECORD_KEY = "release"
Sampling = Literal["poisson", "full", "none"]


@dataclass(frozen=True)
class ReleasePlan:
    """A release that was asked for: what it is, and the event that it will cost.

    Attributes:
        run: Name of the run.
        server_round: Round, 0 for the popularity release.
        kind: ``update`` or ``popularity``.
        event: The event to charge; None in mode `none`.
        divisor: Public constant that the sum is divided by.
        max_grad_norm: L2 bound of one unit's contribution.
    """

    run: str
    server_round: int
    kind: ReleaseKind
    event: GaussianEvent | SampledGaussianEvent | None
    divisor: float
    max_grad_norm: float

    @property
    def key(self) -> tuple[str, int, str]:
        """The ledger's key: the same release asked for twice is one release."""
        return (self.run, self.server_round, self.kind)


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
    ledger: Ledger, plan: ReleasePlan, tensors: Adapter, config: RunConfig, site: str
) -> tuple[Adapter, ReleaseRecord]:
    """Commits charge and bytes in one transaction; returns what may be sent.

    A release that another process charged meanwhile wins: its bytes are returned.

    Raises:
        PolicyRefusal: the ledger is charged for another unit.
    """
    _check_unit(ledger, config.privacy.unit)
    record = _record(ledger, plan, tensors, config, site)
    outgoing = tensors_to_bytes(tensors, {RECORD_KEY: record.model_dump_json()})
    committed = ledger.charge(plan.key, plan.event, outgoing, record.model_dump(mode="json"))
    return _unpacked(ledger, plan, committed)


def _unpacked(ledger: Ledger, plan: ReleasePlan, outgoing: bytes) -> tuple[Adapter, ReleaseRecord]:
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
    counts = np.zeros(catalogue_size, dtype=np.float64)
    for unit in units:
        counts[unit.counted] += 1.0 / np.sqrt(len(unit.counted))
    if noise is not None:
        counts += noise_multiplier * noise.normal(catalogue_size)
    return counts.astype(np.float32)


def _check_unit(ledger: Ledger, unit: str) -> None:
    if ledger.unit != unit:
        raise PolicyRefusal(
            f"ledger {ledger.path} is charged per {ledger.unit}, and cannot be charged per {unit}; "
            f"run with privacy.unit={ledger.unit}"
        )


def _record(
    ledger: Ledger,
    plan: ReleasePlan,
    tensors: Adapter,
    config: RunConfig,
    site: str,
) -> ReleaseRecord:
    privacy, event = config.privacy, plan.event
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
        sample_rate=event.sample_rate if isinstance(event, SampledGaussianEvent) else 1.0,
        steps=event.steps if isinstance(event, SampledGaussianEvent) else 1,
        unit=privacy.unit,
        sampling=_sampling(event),
        divisor=plan.divisor,
        tensors=sorted(tensors),
        bytes=len(adapter_bytes(tensors)),
        payload_sha256=adapter_sha256(tensors),
        event=None if event is None else event_to_dict(event),
        epsilon_prv=None if after is None else epsilon(after, privacy.target_delta, "prv"),
        epsilon_rdp=None if after is None else epsilon(after, privacy.target_delta, "rdp"),
        delta=privacy.target_delta,
        insecure_seeded_noise=privacy.insecure_seeded_noise,
    )


def _mechanism(event: PrivacyEvent | None) -> Mechanism:
    if event is None:
        return "none"
    return "sampled_gaussian" if isinstance(event, SampledGaussianEvent) else "gaussian"


def _sampling(event: PrivacyEvent | None) -> Sampling:
    if event is None:
        return "none"
    return "poisson" if isinstance(event, SampledGaussianEvent) else "full"
