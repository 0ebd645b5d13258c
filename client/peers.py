"""The identity keys of the sites that a site may be summed with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from client.ledger import Ledger
from client.policy import SitePolicy
from client.secagg_policy import SecAggPolicy
from client.site_data import SiteData
from client.site_identity import load_identity
from client.site_ledger import KEYS_FOLDER
from common.pooled_sites import pool_of
from common.site_folder import (
    MANIFEST_FILE,
    SITES_FILE,
    SiteManifest,
    read_manifest,
    read_sites,
    site_name,
)


def secagg_pins(data: SiteData, policy: SitePolicy, ledger: Ledger) -> SecAggPolicy:
    """What the site insists on in a round: its policy's pins, or in a simulation the lab's."""
    peers: Mapping[str, bytes] = {site: bytes.fromhex(key) for site, key in policy.peers.items()}
    if not peers and data.simulated:
        peers = simulated_peers(ledger.path.parent)
    return SecAggPolicy(
        site=data.site,
        identity=ledger.identity.signing_key,
        peers=peers,
        min_survivors=policy.min_participants,
        min_colluders=policy.min_colluders,
    )


def simulated_peers(folder: Path) -> Mapping[str, bytes]:
    """The keys of all sites of a simulated federation, as the lab that made them has them.

    A real site's operator pins them in ``policy.toml``; the server's word is never taken.

    Args:
        folder: of one of the sites; the federation's manifest lies beside it.

    Returns:
        Ed25519 public keys (32 bytes) by name of the site; empty for a site that stands alone.
    """
    federation = folder.resolve().parent
    pool = pool_of(folder)
    if pool is not None:
        return {
            name: _key(federation / name) for name in map(site_name, range(pool.manifest.sites))
        }
    if not (federation / SITES_FILE).is_file():
        return {}
    return {site: _key(path) for path in read_sites(federation) for site in [_name(path)]}


@lru_cache(maxsize=4096)
def _name(folder: Path) -> str:
    return read_manifest(folder / MANIFEST_FILE, SiteManifest).site


@lru_cache(maxsize=4096)
def _key(folder: Path) -> bytes:
    identity = load_identity(folder / KEYS_FOLDER)
    return identity.signing_key.public_key().public_bytes_raw()
