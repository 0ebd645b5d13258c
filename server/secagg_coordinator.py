"""The server's side of one round of secure aggregation (see `common.secagg.messages`).

It relays keys and shares, adds up the masked inputs and removes the masks that remain: the
self masks of survivors and the pair masks between a survivor and a site that vanished. A site
that stays away at any stage, or whose message is faulty, counts as vanished (`rejected` says
why). With fewer than n − D sites left the round is abandoned before anything can be unmasked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.errors import FederationError, MessageError, RoundAbandoned
from common.secagg import keys, modular
from common.secagg.graph import neighbours
from common.secagg.messages import (
    KeyAdvert,
    KeyList,
    MaskedInput,
    ShareDelivery,
    ShareUpload,
    SurvivorList,
    SurvivorSignature,
    UnmaskRequest,
    UnmaskShares,
    survivors_signed,
)
from common.secagg.modular import Residues
from common.secagg.round_spec import RoundSpec
from server.secagg_recovery import SecretRecovery


class _FromSite(Protocol):
    @property
    def context(self) -> bytes: ...
    @property
    def site(self) -> str: ...


M = TypeVar("M", bound=_FromSite)


class SecAggCoordinator:
    """One round at the server; the methods are called once each, in their order.

    Each takes the messages that arrived in time, in any order, and returns what goes out.
    """

    def __init__(self, spec: RoundSpec, identities: Mapping[str, bytes]) -> None:
        """Open the round.

        Args:
            spec: the round.
            identities: Ed25519 public keys of the participants. Sites do not rely on the
                server's copy; it lets the server drop a faulty site instead of the round.
        """
        missing = sorted(set(spec.participants) - set(identities))
        if missing:
            raise FederationError(f"no identity key is known of {', '.join(missing)}")
        self.spec = spec
        self.rejected: dict[str, str] = {}
        self._identities = dict(identities)
        self._stages = iter(("adverts", "shares", "inputs", "signatures", "unmasking"))
        self._present: tuple[str, ...] = spec.participants
        self._inputs: dict[str, Residues] = {}

    @property
    def present(self) -> tuple[str, ...]:
        """The sites that have answered every stage so far."""
        return self._present

    def receive_adverts(self, messages: Sequence[KeyAdvert]) -> KeyList:
        """Stage 0. Returns: what goes to every site that advertised.

        Raises:
            RoundAbandoned: too few sites are left (as in all other stages).
        """
        self._enter("adverts")

        def check(advert: KeyAdvert) -> None:
            if not keys.is_signed(self._identities[advert.site], advert.signature, advert.signed):
                raise MessageError("its keys are not signed by its identity")

        self._adverts = self._take("adverts", messages, check)
        key_list = KeyList(tuple(self._adverts.values()))
        self._keys_hash = key_list.digest
        self._graph = neighbours(list(self._adverts), self.spec.degree, self._keys_hash)
        return key_list

    def receive_shares(self, messages: Sequence[ShareUpload]) -> dict[str, ShareDelivery]:
        """Stage 1. Returns: what goes to each site that shared."""
        self._enter("shares")

        def check(upload: ShareUpload) -> None:
            if {name for name, _ in upload.sealed} != self._graph[upload.site]:
                raise MessageError("it did not share with exactly its neighbours")

        uploads = self._take("shares", messages, check)
        self._sharers = tuple(uploads)
        sent = {site: dict(upload.sealed) for site, upload in uploads.items()}
        return {
            site: ShareDelivery(
                self.spec.context,
                self._sharers,
                tuple((s, sent[s][site]) for s in self._sharers if s in self._graph[site]),
            )
            for site in self._sharers
        }

    def receive_inputs(self, messages: Sequence[MaskedInput]) -> SurvivorList:
        """Stage 2. Returns: what goes to every site whose input arrived."""
        self._enter("inputs")

        def check(message: MaskedInput) -> None:
            spec = self.spec
            self._inputs[message.site] = modular.unpack(
                message.packed, spec.length, spec.modulus_bits
            )

        self._survivors = tuple(self._take("inputs", messages, check))
        return SurvivorList(self.spec.context, self._survivors)

    def receive_signatures(self, messages: Sequence[SurvivorSignature]) -> UnmaskRequest:
        """Stage 3. Returns: what goes to every site that signed."""
        self._enter("signatures")
        sets = self._sharers, self._survivors
        signed = survivors_signed(self.spec.context, self._keys_hash, *sets)

        def check(message: SurvivorSignature) -> None:
            if not keys.is_signed(self._identities[message.site], message.signature, signed):
                raise MessageError("it did not sign the survivors")

        signatures = self._take("signatures", messages, check)
        pairs = tuple((site, message.signature) for site, message in signatures.items())
        return UnmaskRequest(self.spec.context, pairs)

    def receive_unmask(self, messages: Sequence[UnmaskShares]) -> Residues:
        """Stage 4: take off the masks.

        Returns:
            uint64 [length], the sum of the survivors' vectors modulo 2^k: exact, or the
            round is abandoned.
        """
        self._enter("unmasking")
        alive = set(self._survivors)

        def check(message: UnmaskShares) -> None:
            shared = self._graph[message.site] & set(self._sharers)
            seeds, others = dict(message.seed_shares), dict(message.key_shares)
            if set(seeds) != shared & alive or set(others) != shared - alive:
                raise MessageError("its shares are not those that the survivors call for")

        replies = self._take("unmasking", messages, check)
        points = {name: at for at, name in enumerate(sorted(self._adverts), start=1)}
        recovery = SecretRecovery(self.spec, self._adverts, points, list(replies.values()))
        total = np.zeros(self.spec.length, np.uint64)
        for site in self._survivors:
            total += self._inputs[site] - self._expand(recovery.self_mask_key(site))
        for site in sorted(set(self._sharers) - alive):
            beside = sorted(self._graph[site] & alive)
            if beside:
                self._remove_pair_masks(total, site, recovery.mask_private_key(site), beside)
        self._inputs.clear()
        return modular.reduce(total, self.spec.modulus_bits)

    def _remove_pair_masks(
        self, total: Residues, vanished: str, private: X25519PrivateKey, beside: Sequence[str]
    ) -> None:
        for site in beside:
            peer, pair = self._adverts[site].mask_key, {site, vanished}
            mask = self._expand(keys.pair_mask_key(private, peer, self.spec.context, pair))
            if site < vanished:  # `site` had added it
                np.subtract(total, mask, out=total)
            else:
                np.add(total, mask, out=total)

    def _expand(self, key: bytes) -> Residues:
        return keys.expand_mask(key, self.spec.length, self.spec.modulus_bits)

    def _enter(self, stage: str) -> None:
        due = next(self._stages, "nothing")
        if due != stage:
            raise FederationError(f"secure aggregation: {stage} came where {due} is due")

    def _take(self, stage: str, messages: Sequence[M], check: Callable[[M], None]) -> dict[str, M]:
        """The sound messages of sites still present, by site; too few abandon the round."""
        taken: dict[str, M] = {}
        for message in messages:
            try:
                if message.site not in self._present or message.site in taken:
                    raise MessageError(f"it is not expected, or not again, among the {stage}")
                if message.context != self.spec.context:
                    raise MessageError("its message is of another round or config")
                check(message)
                taken[message.site] = message
            except MessageError as error:
                self.rejected[message.site] = str(error)
        self._present = tuple(sorted(taken))
        if len(taken) < self.spec.min_survivors:
            self._stages = iter(())
            self._inputs.clear()
            raise RoundAbandoned(
                f"secure aggregation: {len(taken)} of {len(self.spec.participants)} sites are "
                f"left after the {stage}, {self.spec.min_survivors} are needed; the round is "
                "abandoned and no input was revealed"
            )
        return {site: taken[site] for site in self._present}
