"""A site's side of one round of secure aggregation (see `common.secagg.messages`).

Guarantee, with at most C of the pinned sites colluding with a server that may lie about
everything: of this site's vector they learn nothing but what follows from the sum modulo 2^k
over one set of sites, which holds every honest survivor and at least n − D sites. If the
round ends early, nothing. It rests on X25519, HKDF, ChaCha20 and Ed25519 and on the peers'
identity keys being pinned; it does not say that peers' vectors are well-formed.

The vector may be given once. Every fault ends the site's part for good; its secrets are
dropped (Python cannot overwrite them in memory).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.secagg_checks import (
    check_adverts,
    check_context,
    check_sharers,
    check_signatures,
    check_survivors,
)
from client.secagg_policy import RoundGate, SecAggPolicy
from common.errors import SecAggReason, SecAggRefusal
from common.secagg import keys, modular, shamir
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


class SecAggSite:
    """One site in one round; its methods are called once each, in their order."""

    def __init__(self, policy: SecAggPolicy, spec: RoundSpec, gate: RoundGate) -> None:
        """Enter the round with fresh keys.

        Args:
            policy: the operator's pins.
            spec: the round, with the config hash that *this* site computed.
            gate: the site's memory of rounds, which admits each round once.

        Raises:
            SecAggRefusal: the round does not fit the pins, or was entered before.
        """
        gate.admit(policy, spec)
        self._policy, self._spec, self._next = policy, spec, "advertise"
        self._encryption = X25519PrivateKey.generate()
        self._mask = X25519PrivateKey.generate()
        self._seed = os.urandom(keys.KEY_BYTES)
        self._adverts: dict[str, KeyAdvert] = {}
        self._neighbours: frozenset[str] = frozenset()
        self._keys_hash = b""
        self._held: dict[str, tuple[bytes, bytes]] = {}
        self._sharers: tuple[str, ...] = ()
        self._survivors: tuple[str, ...] = ()

    @property
    def neighbour_adverts(self) -> list[KeyAdvert]:
        """The adverts of the sites that this one shares its secrets with."""
        return [self._adverts[name] for name in sorted(self._neighbours)]

    def advertise(self, checkpoint: bytes = b"") -> KeyAdvert:
        """Stage 0: this round's public keys and the ledger's newest checkpoint, signed."""
        with self._stage("advertise", then="share_keys"):
            spec, site = self._spec, self._policy.site
            encryption, mask = (
                key.public_key().public_bytes_raw() for key in (self._encryption, self._mask)
            )
            commitment = keys.seed_commitment(self._seed, spec.context, site)
            contexts = spec.context, spec.context_without_config
            public = encryption, mask, commitment, checkpoint
            advert = KeyAdvert(*contexts, site, *public, signature=b"")
            signature = self._policy.identity.sign(advert.signed)
            self._own = replace(advert, signature=signature)
            return self._own

    def share_keys(self, message: KeyList) -> ShareUpload:
        """Stage 1: check everybody's keys and seal shares of both secrets for the neighbours.

        Raises:
            SecAggRefusal: an advert that is unsigned, unpinned, of another round or config,
                not this site's own, or too few of them.
        """
        with self._stage("share_keys", then="mask_input"):
            spec, site = self._spec, self._policy.site
            self._adverts = check_adverts(spec, self._policy.peers, self._own, message)
            self._meet(message)
            points = {name: at for at, name in enumerate(sorted(self._adverts), start=1)}
            at = [points[name] for name in self._neighbours]
            seeds = shamir.split(self._seed, spec.share_threshold, at)
            masks = shamir.split(self._mask.private_bytes_raw(), spec.share_threshold, at)
            sealed = []
            for name in sorted(self._neighbours):
                key = self._seal_key(name, sender=site, recipient=name)
                sealed.append((name, keys.seal(key, seeds[points[name]] + masks[points[name]])))
            return ShareUpload(spec.context, site, tuple(sealed))

    def mask_input(self, message: ShareDelivery, vector: Residues) -> MaskedInput:
        """Stage 2: the vector plus the self mask, plus or minus one mask per neighbour.

        Args:
            message: who shared, and the neighbours' shares for this site.
            vector: uint64 [spec.length], each below 2^modulus_bits; clipped and noised.

        Raises:
            SecAggRefusal: too few sharers, or shares missing, too many or changed.
            ValueError: the vector does not fit the round; the site may be given another.
        """
        spec, site = self._spec, self._policy.site
        if vector.shape != (spec.length,) or (vector >> np.uint64(spec.modulus_bits)).any():
            expected = f"[{spec.length}] of {spec.modulus_bits} bits"
            raise ValueError(f"the vector must be {expected}, got {list(vector.shape)}")
        with self._stage("mask_input", then="sign_survivors"):
            check_context(spec, message.context)
            sharing = check_sharers(spec, site, self._adverts, self._neighbours, message)
            for name, sealed in message.sealed:
                key = self._seal_key(name, sender=name, recipient=site)
                plain = keys.unseal(key, sealed, name)
                self._held[name] = plain[: shamir.SHARE_BYTES], plain[shamir.SHARE_BYTES :]
            total = vector + self._expand(keys.self_mask_key(self._seed, spec.context, site))
            for name in sorted(sharing):
                peer, pair = self._adverts[name].mask_key, {site, name}
                mask = self._expand(keys.pair_mask_key(self._mask, peer, spec.context, pair))
                total = total + mask if site < name else total - mask
            self._sharers = message.sharers
            residues = modular.reduce(total, spec.modulus_bits)
            return MaskedInput(spec.context, site, modular.pack(residues, spec.modulus_bits))

    def sign_survivors(self, message: SurvivorList) -> SurvivorSignature:
        """Stage 3: sign the one set of survivors that this site will help to unmask.

        Raises:
            SecAggRefusal: the set lacks this site, holds one that did not share, or is too
                small; or it is a second set (both_kinds).
        """
        with self._stage("sign_survivors", then="unmask", passed="both_kinds"):
            check_context(self._spec, message.context)
            check_survivors(self._spec, self._policy.site, self._sharers, message.survivors)
            self._survivors = message.survivors
            signature = self._policy.identity.sign(self._signed())
            return SurvivorSignature(self._spec.context, self._policy.site, signature)

    def unmask(self, message: UnmaskRequest) -> UnmaskShares:
        """Stage 4: seed shares of surviving, key shares of vanished neighbours; never both.

        Raises:
            SecAggRefusal: fewer than n − D survivors signed what this site signed; or the
                shares were asked for again (both_kinds).
        """
        with self._stage("unmask", then="done", passed="both_kinds"):
            spec, identities = self._spec, self._policy.identities
            check_context(spec, message.context)
            check_signatures(spec, identities, self._survivors, self._signed(), message.signatures)
            held, alive = sorted(self._held.items()), set(self._survivors)
            seeds = tuple((name, seed) for name, (seed, _) in held if name in alive)
            masks = tuple((name, key) for name, (_, key) in held if name not in alive)
            self._forget()
            return UnmaskShares(spec.context, self._policy.site, seeds, masks)

    def check_due(self, name: str) -> None:
        """Refuse, before any work is done for it, a stage that is not the next one.

        Raises:
            SecAggRefusal: another stage is due (out_of_order).
        """
        if self._next != name:
            raise SecAggRefusal("out_of_order", f"{name} was asked for where {self._next} is due")

    def saved(self) -> dict[str, object]:
        """All of the site's part so far, secrets included, as JSON values: see `resumed`."""
        return {
            "next": self._next,
            "encryption": self._encryption.private_bytes_raw().hex(),
            "mask": self._mask.private_bytes_raw().hex(),
            "seed": self._seed.hex(),
            "own": self._own.encode().hex(),
            "adverts": [advert.encode().hex() for advert in self._adverts.values()],
            "held": {name: [seed.hex(), key.hex()] for name, (seed, key) in self._held.items()},
            "sharers": list(self._sharers),
            "survivors": list(self._survivors),
        }

    @classmethod
    def resumed(cls, policy: SecAggPolicy, spec: RoundSpec, saved: Mapping[str, Any]) -> Self:
        """The site's part in a round that it has entered, as `saved` left it.

        Args:
            policy: the operator's pins.
            spec: the round; keys of another round's part are useless in it.
            saved: what `saved` returned, kept where only the site can read it.
        """
        site = cls.__new__(cls)
        site._policy, site._spec, site._next = policy, spec, saved["next"]
        site._encryption = X25519PrivateKey.from_private_bytes(bytes.fromhex(saved["encryption"]))
        site._mask = X25519PrivateKey.from_private_bytes(bytes.fromhex(saved["mask"]))
        site._seed = bytes.fromhex(saved["seed"])
        site._own = KeyAdvert.decode(bytes.fromhex(saved["own"]))
        adverts = [KeyAdvert.decode(bytes.fromhex(each)) for each in saved["adverts"]]
        site._adverts = {advert.site: advert for advert in adverts}
        site._keys_hash, site._neighbours = b"", frozenset()
        if adverts:
            site._meet(KeyList(tuple(adverts)))
        held = saved["held"].items()
        site._held = {name: (bytes.fromhex(s), bytes.fromhex(k)) for name, (s, k) in held}
        site._sharers, site._survivors = tuple(saved["sharers"]), tuple(saved["survivors"])
        return site

    def _meet(self, key_list: KeyList) -> None:
        """Who is in the round and who of them are neighbours follows from all keys."""
        self._keys_hash = key_list.digest
        graph = neighbours(list(self._adverts), self._spec.degree, self._keys_hash)
        self._neighbours = graph[self._policy.site]

    def _signed(self) -> bytes:
        sets = self._sharers, self._survivors
        return survivors_signed(self._spec.context, self._keys_hash, *sets)

    def _expand(self, key: bytes) -> Residues:
        return keys.expand_mask(key, self._spec.length, self._spec.modulus_bits)

    def _seal_key(self, peer: str, *, sender: str, recipient: str) -> bytes:
        public, context = self._adverts[peer].encryption_key, self._spec.context
        return keys.share_seal_key(self._encryption, public, context, sender, recipient)

    @contextmanager
    def _stage(
        self, name: str, *, then: str, passed: SecAggReason = "out_of_order"
    ) -> Iterator[None]:
        """Each stage once, in order; whatever goes wrong ends the site's part for good."""
        due, self._next = self._next, "nothing"
        try:
            if due != name:
                reason: SecAggReason = passed if due == then else "out_of_order"
                raise SecAggRefusal(reason, f"{name} was asked for where {due} is due")
            yield
        except BaseException:
            self._forget()
            raise
        self._next = then

    def _forget(self) -> None:
        self._held.clear()
        self._seed = b""
        self._encryption = self._mask = X25519PrivateKey.generate()
