"""What a site states about one release: the line that it adds to ``releases.jsonl``.

A record holds only public facts (the mechanism, its parameters, the totals of the site's
ledger); an auditor recomputes ε from `event` alone.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from common.adapters import Adapter, adapter_sha256
from common.errors import PrivacyError
from common.privacy_events import event_from_dict, event_to_dict
from common.unit_texts import PrivacyUnit

ReleaseKind = Literal["update", "popularity", "cooccurrence", "metrics"]
Mechanism = Literal["gaussian", "sampled_gaussian", "discrete_gaussian", "none", "exact_lab_only"]

COUNTS_TENSOR = "counts"
COOCCURRENCE_TENSOR = "cooccurrence"


class ReleaseRecord(BaseModel):
    """One release of one site: mechanism, parameters, bytes, and the ledger's totals.

    Attributes:
        site: name of the site that released.
        run: name of the run, as in the run's folder.
        server_round: round of the release, 0 for the releases before training.
        kind: what was released.
        mode: `privacy.mode` that the site applied.
        mechanism: mechanism that was run; `discrete_gaussian` noises the sum over all sites
            (in mode `distributed` each site adds a share, in `central` the server adds it
            all), the others each site's own release; `exact_lab_only` marks exact metrics
            that only a simulation's laboratory may see.
        noise_multiplier: σ; the noise has standard deviation σ·C before the divisor.
        max_grad_norm: C, the bound on one unit's contribution (L2).
        sample_rate: q, the Poisson rate of units in one step.
        steps: noised steps that the release composes.
        unit: the privacy unit.
        neighbouring_relation: the pair of data sets that the guarantee compares: one `unit`
            (`common.unit_texts` says what that is) more or less.
        sampling: how units were chosen.
        divisor: public constant that the noised sum was divided by.
        tensors: names of the released tensors, sorted.
        bytes: size of the released payload.
        payload_sha256: hash of the payload (`common.adapters.adapter_sha256`).
        event: privacy event charged (`common.privacy_events.event_to_dict`), or none.
        epsilon_prv: total ε of the site's ledger *after* this release, PRV accountant.
        epsilon_rdp: the same by RDP.
        delta: δ at which both totals are stated.
        epsilon_left: what the site declares to be left of its limit after this release, at
            the δ of its own policy; None where it declares nothing.
        insecure_seeded_noise: the noise came from a seed, so no guarantee holds.
        ledger_checkpoint: the site's signed `common.ledger_checkpoint.Checkpoint` right
            after this release's charge; whoever keeps it can hold the ledger to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = 1
    site: str = Field(min_length=1, max_length=200)
    run: str = Field(min_length=1, max_length=200)
    server_round: int = Field(ge=0)
    kind: ReleaseKind
    mode: str = Field(min_length=1, max_length=40)
    mechanism: Mechanism
    noise_multiplier: float = Field(ge=0)
    max_grad_norm: float = Field(ge=0)
    sample_rate: float = Field(ge=0, le=1)
    steps: int = Field(ge=0)
    unit: PrivacyUnit = "user"
    neighbouring_relation: Literal["add_or_remove_one"] = "add_or_remove_one"
    sampling: Literal["poisson", "full", "none"]
    divisor: float = Field(gt=0)
    tensors: list[str]
    bytes: int = Field(ge=0)
    payload_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    event: dict[str, Any] | None = None
    epsilon_prv: float | None = Field(default=None, ge=0)
    epsilon_rdp: float | None = Field(default=None, ge=0)
    delta: float = Field(ge=0, lt=1)
    epsilon_left: float | None = Field(default=None, ge=0)
    insecure_seeded_noise: bool = False
    ledger_checkpoint: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_declared(self, serialise: SerializerFunctionWrapHandler) -> Any:
        """So that an entry of before there was `epsilon_left` stays what it was, word by word."""
        values = serialise(self)
        if self.epsilon_left is None:
            del values["epsilon_left"]
        return values

    @field_validator("event")
    @classmethod
    def _check_event(cls, event: dict[str, Any] | None) -> dict[str, Any] | None:
        """An event that no accountant knows is refused on arrival, not in the audit."""
        if event is None:
            return None
        try:
            return event_to_dict(event_from_dict(event))
        except PrivacyError as fault:
            raise ValueError(str(fault)) from fault


def counts_payload(counts: npt.NDArray[np.float32]) -> Adapter:
    """Popularity counts ``[V]`` as the named tensors that `payload_sha256` covers."""
    return {COUNTS_TENSOR: np.ascontiguousarray(counts, dtype=np.float32)}


def payload_sha256(payload: Adapter) -> str:
    """Hash that a release record states for `payload` (an update, or `counts_payload`)."""
    return adapter_sha256(payload)
