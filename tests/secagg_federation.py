"""A whole round of secure aggregation in one process, over the messages' bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.secagg_policy import RoundGate, SecAggPolicy
from client.secagg_site import SecAggSite
from common.secagg.modular import Residues
from common.secagg.round_spec import RoundSpec
from server.secagg_coordinator import SecAggCoordinator

STAGES = ("advertise", "share_keys", "mask_input", "sign_survivors", "unmask")


def site_names(count: int) -> tuple[str, ...]:
    return tuple(f"site-{at:04d}" for at in range(count))


def make_spec(sites: int, dropouts: int = 0, colluders: int = 0, **changed: Any) -> RoundSpec:
    fields: dict[str, Any] = {
        "run": b"run", "server_round": 1, "config_hash": bytes(32),
        "participants": site_names(sites), "max_dropouts": dropouts,
        "max_colluders": colluders, "length": 20, "modulus_bits": 40,
    }  # fmt: skip
    return RoundSpec(**(fields | changed))


@dataclass
class Federation:
    """All parties of one round, and everything that the server saw."""

    spec: RoundSpec
    over_bytes: bool = True
    min_survivors: int = 2
    sites: dict[str, SecAggSite] = field(init=False)
    transcript: list[Any] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0

    def __post_init__(self) -> None:
        identities = {name: Ed25519PrivateKey.generate() for name in self.spec.participants}
        peers = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
        self.policies = {
            name: SecAggPolicy(name, key, peers, self.min_survivors, self.spec.max_colluders)
            for name, key in identities.items()
        }
        self.gates = {name: RoundGate() for name in identities}
        self.peers = peers
        self.sites = {name: self.enter(name) for name in identities}
        self.server = SecAggCoordinator(self.spec, peers)

    def enter(self, name: str, spec: RoundSpec | None = None) -> SecAggSite:
        return SecAggSite(self.policies[name], spec or self.spec, self.gates[name])

    def up(self, message: Any) -> Any:
        self.transcript.append(message)
        if not self.over_bytes:
            return message
        data = message.encode()
        self.bytes_up += len(data)
        return type(message).decode(data)

    def down(self, message: Any) -> Any:
        if not self.over_bytes:
            return message
        data = message.encode()
        self.bytes_down += len(data)
        return type(message).decode(data)

    def advertise(self, names: Collection[str] | None = None) -> Any:
        everybody = self.spec.participants if names is None else names
        return self.server.receive_adverts([self.up(self.sites[s].advertise()) for s in everybody])

    def share(self, key_list: Any, names: Sequence[str]) -> Any:
        return self.server.receive_shares(
            [self.up(self.sites[s].share_keys(self.down(key_list))) for s in names]
        )

    def mask(self, deliveries: Any, names: Sequence[str], vectors: Mapping[str, Residues]) -> Any:
        return self.server.receive_inputs(
            [self.up(self.sites[s].mask_input(self.down(deliveries[s]), vectors[s])) for s in names]
        )

    def sign(self, survivors: Any, names: Sequence[str]) -> Any:
        return self.server.receive_signatures(
            [self.up(self.sites[s].sign_survivors(self.down(survivors))) for s in names]
        )

    def unmask(self, request: Any, names: Sequence[str]) -> Residues:
        return self.server.receive_unmask(
            [self.up(self.sites[s].unmask(self.down(request))) for s in names]
        )

    def run(
        self, vectors: Mapping[str, Residues], vanish: Mapping[str, str] | None = None
    ) -> Residues:
        """The sum; `vanish` maps a site to the stage whose message it does not send."""
        left = list(self.spec.participants)

        def still(stage: str) -> list[str]:
            left[:] = [s for s in left if (vanish or {}).get(s) != stage]
            return list(left)

        key_list = self.advertise(still("advertise"))
        deliveries = self.share(key_list, still("share_keys"))
        survivors = self.mask(deliveries, still("mask_input"), vectors)
        request = self.sign(survivors, still("sign_survivors"))
        return self.unmask(request, still("unmask"))


def random_vectors(spec: RoundSpec, seed: int = 0) -> dict[str, Residues]:
    rng = np.random.default_rng(seed)
    high = 2**spec.modulus_bits
    return {site: rng.integers(0, high, spec.length, dtype=np.uint64) for site in spec.participants}


def plain_sum(spec: RoundSpec, vectors: Mapping[str, Residues], sites: Collection[str]) -> Residues:
    """Python's unbounded integers: nothing in common with the code under test."""
    columns = zip(*([int(v) for v in vectors[site]] for site in sites), strict=True)
    return np.array([sum(column) % 2**spec.modulus_bits for column in columns], np.uint64)
