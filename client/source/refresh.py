"""``fedrec-site refresh``: the source's data become the site's tables, all of them or none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from client.site_ledger import KEYS_FOLDER
from client.source.canonical import events_of, users_of
from client.source.catalogue import read_catalogue
from client.source.pseudonyms import Pseudonyms, load_pseudonyms
from client.source.reading import Source, open_source, read_batches
from client.source.refresh_plan import (
    Plan,
    check_ledger,
    clock_of,
    current_manifest,
    plan_refresh,
    reading_hash,
)
from client.source.settings import SourceSettings
from client.source.settings_file import read_source
from client.source.staging import Staging, open_staging, scratch_faults
from client.source.tables import Written, kept_events, write_events, write_users
from client.source.versions import (
    STATE_FILE,
    RefreshState,
    new_version,
    only_refresh,
    publish,
    state_of,
)
from common.errors import DataError
from common.interactions import Catalogue
from common.site_folder import (
    INTERACTIONS_FILE,
    ITEMS_FILE,
    USERS_FILE,
    SiteManifest,
    write_catalogue,
)


class Refreshed(NamedTuple):
    """What a refresh did; the counts are private, and for the operator's own eyes."""

    plan: Plan
    catalogue: Catalogue
    declared_sha256: str
    rows_read: int
    repeats: int
    written: Written
    users_with_attributes: int
    declared_units: int

    def lines(self) -> list[str]:
        """The report for the operator: what was read, kept and published."""
        written = self.written
        lines = [
            f"read: {self.plan.why}; {self.rows_read} rows after filters",
            f"tables: {written.rows} interactions of {written.users} users, "
            f"{written.usable_users} of them with enough",
            f"catalogue: {len(self.catalogue)} items, SHA-256 {self.catalogue.sha256}",
        ]
        findings = {
            "rows left out: repeated (user, item), the earliest stays": self.repeats,
            "rows of items that are not in the catalogue; they wait until it has them": (
                written.unknown_rows
            ),
        }
        lines += [f"{count} {finding}" for finding, count in findings.items() if count]
        if not self.declared_sha256:
            lines.append(
                "items.catalogue_sha256 is empty: hold the one above against the coordinator's"
            )
        if not self.declared_units / 2 <= written.usable_users <= self.declared_units:
            lines.append(
                f"declared_units = {self.declared_units} is far from the number of users; declare "
                "a rounded number that is a little above it"
            )
        return lines


def refresh_site(folder: Path, *, full: bool = False, now: float | None = None) -> Refreshed:
    """Read the source and replace the site's tables as one set.

    Memory is bounded by a batch, SQLite's cache and the public catalogue.

    Args:
        folder: the site's, with its ``source.toml``.
        full: whether to read all, also where the source is incremental.
        now: unix seconds; None: the clock's.

    Raises:
        FedrecError: something is wrong; the old tables stand, whole.
    """
    now = time.time() if now is None else now
    settings = read_source(folder)
    with only_refresh(folder):
        pseudonyms = load_pseudonyms(folder / KEYS_FOLDER, begin=False)
        current = current_manifest(folder)
        check_ledger(folder, pseudonyms)
        reads = reading_hash(settings, pseudonyms)
        state = state_of(folder, current)
        plan = plan_refresh(settings, state, reads, full=full, now=now)
        with new_version(folder, current) as new:
            kept = None if current is None else folder / current.tables / INTERACTIONS_FILE
            made = _make(folder, new, settings, pseudonyms, plan, kept, now)
            full_at = now if plan.since is None or state is None else state.full_at
            left = RefreshState(watermark=made.written.newest, full_at=full_at, reads=reads)
            with scratch_faults():
                (new / STATE_FILE).write_text(left.model_dump_json() + "\n", encoding="utf-8")
            publish(folder, new, _manifest(settings, made.catalogue, pseudonyms), current)
    return made


def _make(
    folder: Path,
    new: Path,
    settings: SourceSettings,
    pseudonyms: Pseudonyms,
    plan: Plan,
    kept: Path | None,
    now: float,
) -> Refreshed:
    with open_staging(new) as staging:
        with open_source(settings, folder) as source:
            catalogue = read_catalogue(source, settings.items, folder)
            _stage_users(source, settings, pseudonyms, staging)
            rows = _stage_events(source, settings, pseudonyms, plan, staging, now)
        if plan.since is not None and kept is not None:
            for events in kept_events(kept):
                staging.add_events(events)
        write_catalogue(new / ITEMS_FILE, catalogue)
        described = 0
        if settings.users is not None:
            attributes = list(settings.users.attributes)
            described = write_users(new / USERS_FILE, staging.users(), attributes)
        written = write_events(
            new / INTERACTIONS_FILE,
            staging.events(refuse_repeats=settings.interactions.duplicates == "refuse"),
            frozenset(catalogue.item_ids),
            settings.site.min_interactions,
        )
        _check_usable(written, settings.site.min_interactions)
        return Refreshed(
            plan,
            catalogue,
            settings.items.catalogue_sha256,
            rows,
            staging.repeats,
            written,
            described,
            settings.site.declared_units,
        )


def _stage_users(
    source: Source, settings: SourceSettings, pseudonyms: Pseudonyms, staging: Staging
) -> None:
    if settings.users is not None:
        for batch in read_batches(source, "users", settings.users):
            staging.add_users(users_of(batch, settings.users, pseudonyms))


def _stage_events(
    source: Source,
    settings: SourceSettings,
    pseudonyms: Pseudonyms,
    plan: Plan,
    staging: Staging,
    now: float,
) -> int:
    place, read = settings.interactions, 0
    clock = clock_of(settings, now)
    for batch in read_batches(source, "interactions", place, since=plan.since):
        staging.add_events(events_of(batch, place, clock, pseudonyms))
        read += len(batch.rows)
    return read


def _check_usable(written: Written, least: int) -> None:
    if not written.rows:
        raise DataError("interactions: no row is left; correct its file, table, query or filters")
    if written.unknown_rows == written.rows:
        raise DataError(
            "interactions: none of its items is in the catalogue; check that both use the same "
            "item ids, and that item_id maps the right column"
        )
    if not written.usable_users:
        raise DataError(
            f"interactions: no user has {least} different items of the catalogue; give more data"
        )


def _manifest(
    settings: SourceSettings, catalogue: Catalogue, pseudonyms: Pseudonyms
) -> SiteManifest:
    site = settings.site
    return SiteManifest(
        site=site.name,
        declared_units=site.declared_units,
        declared_examples=site.declared_examples,
        dataset=site.dataset,
        catalogue=ITEMS_FILE,
        catalogue_sha256=catalogue.sha256,
        min_interactions=site.min_interactions,
        population=pseudonyms.population,
    )
