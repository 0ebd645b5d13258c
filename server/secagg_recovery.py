"""Putting shares together again: a survivor's self mask, a vanished site's mask key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.errors import MessageError, RoundAbandoned
from common.secagg import keys, shamir
from common.secagg.messages import KeyAdvert, UnmaskShares
from common.secagg.round_spec import RoundSpec


class SecretRecovery:
    """Secrets from the shares that the last stage brought, each checked against its advert."""

    def __init__(
        self,
        spec: RoundSpec,
        adverts: Mapping[str, KeyAdvert],
        points: Mapping[str, int],
        replies: Sequence[UnmaskShares],
    ) -> None:
        """Sort the shares by whose secret they are of.

        Args:
            spec: the round.
            adverts: the sites' keys and commitments, by site.
            points: where each site's shares were evaluated.
            replies: what the sites handed over.
        """
        self._spec, self._adverts = spec, adverts
        self._seeds: dict[str, dict[int, bytes]] = {}
        self._keys: dict[str, dict[int, bytes]] = {}
        for reply in replies:
            at = points[reply.site]
            for owner, share in reply.seed_shares:
                self._seeds.setdefault(owner, {})[at] = share
            for owner, share in reply.key_shares:
                self._keys.setdefault(owner, {})[at] = share

    def self_mask_key(self, site: str) -> bytes:
        """The key of a survivor's self mask.

        Raises:
            RoundAbandoned: too few shares, or a wrong one.
        """
        seed, context = self._secret(self._seeds, site), self._spec.context
        if keys.seed_commitment(seed, context, site) != self._adverts[site].seed_commitment:
            raise self._wrong(site)
        return keys.self_mask_key(seed, context, site)

    def mask_private_key(self, site: str) -> X25519PrivateKey:
        """A vanished site's private mask key.

        Raises:
            RoundAbandoned: too few shares, or a wrong one.
        """
        private = X25519PrivateKey.from_private_bytes(self._secret(self._keys, site))
        if private.public_key().public_bytes_raw() != self._adverts[site].mask_key:
            raise self._wrong(site)
        return private

    def _secret(self, shares: Mapping[str, Mapping[int, bytes]], site: str) -> bytes:
        held = shares.get(site, {})
        threshold = self._spec.share_threshold
        if len(held) < threshold:
            raise RoundAbandoned(
                f"secure aggregation: {len(held)} shares of {site}, {threshold} are needed"
            )
        try:
            return shamir.reconstruct(held, _weights(tuple(sorted(held)[:threshold])))
        except MessageError as error:
            raise self._wrong(site) from error

    def _wrong(self, site: str) -> RoundAbandoned:
        return RoundAbandoned(
            f"secure aggregation: the shares do not give the secret that {site} committed to; "
            "a site handed over a wrong share"
        )


@lru_cache(maxsize=4096)
def _weights(points: tuple[int, ...]) -> dict[int, int]:
    return shamir.weights_at_zero(points)
