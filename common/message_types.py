"""The typed messages between server and sites; `common.messages` hands them on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.adapters import Adapter
from common.metrics import MetricSums
from common.release_record import ReleaseRecord

Stage = Literal["validation", "test"]
SumPurpose = Literal["update", "popularity", "cooccurrence"]
SumStage = Literal["advertise", "share_keys", "mask_input", "sign_survivors", "unmask", "exact"]

POPULARITY_ROUND = 0
"""The round before training, of both statistics: popularity and co-occurrence."""


def _no_weights() -> npt.NDArray[np.float32]:
    return np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class TrainRequest:
    """The server asks a site to train.

    Attributes:
        run: name of the run.
        server_round: 1 for the first round.
        config_sha256: `RunConfig.sha256` of the server.
        adapter: the global adapter, float32.
        item_prior: ``[V]`` float32, or ``[0]`` when the run uses none.
    """

    run: str
    server_round: int
    config_sha256: str
    adapter: Adapter
    item_prior: npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainReply:
    """A site's release of one round: `update` is the new adapter minus the received one."""

    site: str
    server_round: int
    config_sha256: str
    update: Adapter
    release: ReleaseRecord
    declared_units: int


@dataclass(frozen=True)
class PopularityRequest:
    """The server asks a site to release its popularity counts, once."""

    run: str
    config_sha256: str


@dataclass(frozen=True)
class PopularityReply:
    """A site's popularity release: `counts` is ``[V]`` float32, noised unless mode is none."""

    site: str
    config_sha256: str
    counts: npt.NDArray[np.float32]
    release: ReleaseRecord
    declared_units: int


@dataclass(frozen=True)
class CooccurrenceRequest:
    """The server asks a site to release its co-occurrence, once; the prior says of which items."""

    run: str
    config_sha256: str
    item_prior: npt.NDArray[np.float32]


@dataclass(frozen=True)
class CooccurrenceReply:
    """A site's co-occurrence release.

    Attributes:
        cells: ``[N (N + 1) / 2]`` float32 (`common.cooccurrence`), noised unless mode is none.
    """

    site: str
    config_sha256: str
    cells: npt.NDArray[np.float32]
    release: ReleaseRecord
    declared_units: int


@dataclass(frozen=True)
class EvaluateRequest:
    """The server asks a site to score its held-out targets with `adapter`.

    Attributes:
        item_to_item: ``[N (N + 1) / 2]`` weights between items (`common.item_to_item`), or
            ``[0]`` where the run has none. Training does not read them and does not carry them.
    """

    run: str
    server_round: int
    config_sha256: str
    adapter: Adapter
    item_prior: npt.NDArray[np.float32]
    stage: Stage
    item_to_item: npt.NDArray[np.float32] = field(default_factory=_no_weights)


@dataclass(frozen=True)
class EvaluateReply:
    """A site's exact metric sums: for the laboratory of a simulation only."""

    site: str
    server_round: int
    config_sha256: str
    sums: MetricSums
    release: ReleaseRecord


@dataclass(frozen=True)
class NoisedMetricsReply:
    """A site's private metrics: `sums` is ``[6]`` float32, noised; see `common.metrics_plan`."""

    site: str
    server_round: int
    config_sha256: str
    stage: Stage
    sums: npt.NDArray[np.float32]
    release: ReleaseRecord
    declared_units: int


@dataclass(frozen=True)
class EnrolRequest:
    """The server asks a site for what it declares in public, before anything is summed."""

    run: str
    config_sha256: str


@dataclass(frozen=True)
class EnrolReply:
    """What a site declares in public.

    Attributes:
        site: its name.
        config_sha256: `RunConfig.sha256` of the site.
        identity: its Ed25519 public key, hex. The server uses it to drop a faulty site; the
            peers go by the keys that their operators pinned, never by this.
        declared_units: number of its units.
        catalogue_size: V.
        catalogue_sha256: `Catalogue.sha256`.
    """

    site: str
    config_sha256: str
    identity: str
    declared_units: int
    catalogue_size: int
    catalogue_sha256: str


@dataclass(frozen=True)
class SumRequest:
    """The server asks a site for its part in a sum over all sites.

    Attributes:
        run: name of the run.
        server_round: 0 for the sums before training.
        config_sha256: `RunConfig.sha256` of the server.
        purpose: what is summed.
        stage: of the protocol (`common.secagg.messages`); `exact` in mode `central`.
        participants: the invited sites, sorted.
        payload: the encoded message of the stage, empty where there is none.
        adapter: the global adapter where the stage trains, else empty.
        item_prior: ``[V]`` where the stage trains or counts co-occurrence and there is one,
            else ``[0]``.
    """

    run: str
    server_round: int
    config_sha256: str
    purpose: SumPurpose
    stage: SumStage
    participants: tuple[str, ...]
    payload: bytes
    adapter: Adapter
    item_prior: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SumReply:
    """A site's message of one stage; the stage that releases carries the release's record."""

    site: str
    server_round: int
    config_sha256: str
    stage: SumStage
    payload: bytes
    release: ReleaseRecord | None


@dataclass(frozen=True)
class RefusalReply:
    """A site says no, or cannot; it released nothing.

    Attributes:
        site: the site, or empty when the fault came before it was known.
        server_round: round of the request (0: popularity).
        code: class name of the error, such as ``BudgetRefusal`` or ``DataError``.
        reason: the error's one line.
    """

    site: str
    server_round: int
    code: str
    reason: str
