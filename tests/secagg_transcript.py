"""What a server could work out from everything that it saw of a round of secure aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.errors import MessageError
from common.secagg import keys, modular, shamir
from common.secagg.graph import neighbours
from common.secagg.messages import KeyAdvert, KeyList, MaskedInput, UnmaskShares
from common.secagg.modular import Residues
from common.secagg.round_spec import RoundSpec


def strip(spec: RoundSpec, seen: Sequence[Any]) -> dict[str, Residues]:
    """Each masked input less every mask that the server can compute from all it saw."""
    adverts = {a.site: a for a in seen if isinstance(a, KeyAdvert)}
    key_list = KeyList(tuple(adverts[s] for s in sorted(adverts)))
    graph = neighbours(list(adverts), spec.degree, key_list.digest)
    points = {site: at for at, site in enumerate(sorted(adverts), start=1)}
    shares: dict[tuple[str, str], dict[int, bytes]] = {}
    for reply in (r for r in seen if isinstance(r, UnmaskShares)):
        for kind, given_shares in (("seed", reply.seed_shares), ("key", reply.key_shares)):
            for owner, share in given_shares:
                shares.setdefault((kind, owner), {})[points[reply.site]] = share
    found = {}
    for (kind, owner), held in shares.items():
        try:
            secret = shamir.reconstruct(held, shamir.weights_at_zero(held))
        except MessageError:
            continue
        commitment = keys.seed_commitment(secret, spec.context, owner)
        private = keys.X25519PrivateKey.from_private_bytes(secret)
        right = {
            "seed": commitment == adverts[owner].seed_commitment,
            "key": private.public_key().public_bytes_raw() == adverts[owner].mask_key,
        }
        if right[kind]:
            found[kind, owner] = secret
    return {
        m.site: unmasked(spec, m, adverts, graph[m.site], found)
        for m in seen
        if isinstance(m, MaskedInput)
    }


def unmasked(
    spec: RoundSpec,
    message: MaskedInput,
    adverts: dict[str, KeyAdvert],
    around: frozenset[str],
    found: dict[tuple[str, str], bytes],
) -> Residues:
    site, bits = message.site, spec.modulus_bits
    rest = modular.unpack(message.packed, spec.length, bits)
    if ("seed", site) in found:
        key = keys.self_mask_key(found["seed", site], spec.context, site)
        rest = rest - keys.expand_mask(key, spec.length, bits)
    for other in around:
        owner, peer = (site, other) if ("key", site) in found else (other, site)
        if ("key", owner) in found:
            private = keys.X25519PrivateKey.from_private_bytes(found["key", owner])
            key = keys.pair_mask_key(private, adverts[peer].mask_key, spec.context, {site, other})
            mask = keys.expand_mask(key, spec.length, bits)
            rest = rest - mask if site < other else rest + mask
    return modular.reduce(rest, bits)
