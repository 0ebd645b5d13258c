"""Who shares masks with whom: a Harary graph over a pseudorandomly permuted ring.

The permutation comes from a hash of all sites' signed, fresh public keys, so that the server
cannot fix it alone (it may still try several sets of sites). The thresholds of
`common.secagg.round_spec` hold for *every* permutation; the hash only spreads the load and
keeps a server from always placing the same sites side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from common.secagg.keys import framed


def neighbours(sites: Sequence[str], degree: int, seed: bytes) -> dict[str, frozenset[str]]:
    """The neighbours of each site: symmetric, without the site itself.

    Args:
        sites: distinct names; their order does not matter.
        degree: even, or at least ``len(sites) - 1`` for the complete graph.
        seed: what the sites agree on, e.g. a hash of all public keys.

    Raises:
        ValueError: an odd degree below that of the complete graph.
    """
    if degree >= len(sites) - 1:
        return {site: frozenset(sites) - {site} for site in sites}
    if degree % 2:
        raise ValueError(f"the degree of a Harary graph on a ring must be even, got {degree}")
    ring = sorted(sites, key=lambda site: sha256(framed(seed, site.encode())).digest())
    steps = [step for step in range(-degree // 2, degree // 2 + 1) if step]
    return {
        site: frozenset(ring[(at + step) % len(ring)] for step in steps)
        for at, site in enumerate(ring)
    }
