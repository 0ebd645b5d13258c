"""What a refresh may do at a site, and how much of the source it has to read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from client.ledger_file import LedgerFile
from client.site_identity import load_identity
from client.site_ledger import KEYS_FOLDER, LEDGER_FILE
from client.source.pseudonyms import Pseudonyms
from client.source.settings import SourceSettings
from client.source.times import Clock
from client.source.versions import RefreshState
from common.errors import DataError, LedgerError
from common.site_folder import MANIFEST_FILE, SiteManifest, read_manifest

_DAY = 86_400


class Plan(NamedTuple):
    """What a refresh reads.

    Attributes:
        since: unix seconds from which interactions are read; None: all of them.
        why: in words.
    """

    since: int | None
    why: str


def plan_refresh(
    settings: SourceSettings, state: RefreshState | None, reads: str, *, full: bool, now: float
) -> Plan:
    """What has to be read: all, unless the source is incremental and nothing forbids it."""
    limit = settings.source.full_every_days
    if full or not settings.source.incremental:
        return Plan(None, "all rows")
    if state is None:
        return Plan(None, "all rows, since there was no refresh before")
    if state.reads != reads:
        return Plan(None, "all rows, since source.toml or the key has changed")
    if not 0 <= now - state.full_at < limit * _DAY:
        return Plan(None, f"all rows, since the last full read is not within {limit:g} days")
    late = settings.source.late_s
    return Plan(
        max(0, int(state.watermark - late)), f"rows new since then, or up to {late:g} s late"
    )


def current_manifest(folder: Path) -> SiteManifest | None:
    """What the site declares; None where it has no tables yet.

    Raises:
        DataError: it is damaged, or of a simulated site.
    """
    if not (folder / MANIFEST_FILE).exists():
        return None
    manifest = read_manifest(folder / MANIFEST_FILE, SiteManifest)
    if manifest.simulated:
        raise DataError(
            f"{MANIFEST_FILE} is that of a simulated site, whose data a refresh must not replace; "
            "begin a folder of your own with `fedrec-site init`"
        )
    return manifest


def check_ledger(folder: Path, pseudonyms: Pseudonyms) -> None:
    """Refuse to replace the users that the site's ledger is bound to by others.

    Raises:
        LedgerError: the ledger is another population's, or cannot be read.
    """
    file = LedgerFile(folder / LEDGER_FILE)
    if not file.exists():
        return
    with file.connection() as connection:
        owner = file.check(connection)
    identity = load_identity(folder / KEYS_FOLDER, begin=False)
    if owner.dataset_fingerprint != identity.fingerprint([pseudonyms.population], owner.unit):
        raise LedgerError(
            "the site's ledger is bound to other users than those behind its pseudonym key; "
            "restore that key, or begin another site folder, whose promise stands beside this one"
        )


def reading_hash(settings: SourceSettings, pseudonyms: Pseudonyms) -> str:
    """What an incremental refresh must have in common with the one before."""
    source = settings.source.model_dump(
        include={"kind", "url", "encoding", "delimiter", "time_zone"}
    )
    read = [pseudonyms.population, source, settings.interactions.model_dump()]
    return hashlib.sha256(json.dumps(read).encode("utf-8")).hexdigest()


def clock_of(settings: SourceSettings, now: float) -> Clock:
    """How the source's times are read at `now`."""
    source = settings.source
    return Clock(settings.interactions.time_format, source.time_zone, now + source.max_clock_skew_s)
