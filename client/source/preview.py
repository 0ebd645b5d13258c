"""What a source looks like, from ten of its rows: columns, types and counts, never a value."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from client.site_ledger import KEYS_FOLDER
from client.source.canonical import events_of, users_of
from client.source.catalogue import read_catalogue
from client.source.places import Batch
from client.source.pseudonyms import load_pseudonyms
from client.source.reading import Source, SourceTable, open_source, read_batches
from client.source.refresh_plan import (
    check_ledger,
    clock_of,
    current_manifest,
    plan_refresh,
    reading_hash,
)
from client.source.settings import SiteSection, SourceSettings
from client.source.settings_file import read_source
from client.source.versions import state_of
from common.errors import DataError
from common.interactions import Catalogue

ROWS = 10


class Preview(NamedTuple):
    """What was found; only the catalogue and what the site declares are public.

    Attributes:
        site: what ``source.toml`` declares.
        catalogue: the public items.
        attributes: names of the users' attributes.
        lines: for the operator.
    """

    site: SiteSection
    catalogue: Catalogue
    attributes: tuple[str, ...]
    lines: list[str]


def preview_source(folder: Path) -> Preview:
    """Read ten rows of each private table and the public catalogue; nothing is written.

    Raises:
        FedrecError: what a refresh would stumble over, too.
    """
    now = time.time()
    settings = read_source(folder)
    pseudonyms = load_pseudonyms(folder / KEYS_FOLDER, begin=False)
    check_ledger(folder, pseudonyms)
    place, users = settings.interactions, settings.users
    mapped = {
        "user_id": place.user_id,
        "item_id": place.item_id,
        "timestamp": place.timestamp,
        "rating": place.rating,
    }
    with open_source(settings, folder) as source:
        lines, batches = _first_rows(source, "interactions", place, mapped)
        for batch in batches:
            list(events_of(batch, place, clock_of(settings, now), pseudonyms))
        if users is not None:
            named = {"user_id": users.user_id, **users.attributes}
            more, batches = _first_rows(source, "users", users, named)
            lines += more
            for batch in batches:
                list(users_of(batch, users, pseudonyms))
        catalogue = read_catalogue(source, settings.items, folder)
    lines.append(f"catalogue: {len(catalogue)} items, SHA-256 {catalogue.sha256}")
    state = state_of(folder, current_manifest(folder))
    plan = plan_refresh(settings, state, reading_hash(settings, pseudonyms), full=False, now=now)
    lines.append(_what_refresh_does(settings, plan.why))
    attributes = () if users is None else tuple(users.attributes)
    return Preview(settings.site, catalogue, attributes, lines)


def _first_rows(
    source: Source, part: str, place: SourceTable, mapped: Mapping[str, str]
) -> tuple[list[str], list[Batch]]:
    batches = list(read_batches(source, part, place, limit=ROWS))
    if not batches:
        raise DataError(f"{part}: has no rows; correct its file, table or query in source.toml")
    schema = batches[0].table.schema
    columns = ", ".join(
        f"{column} ({schema.field(column).type}) is {name}"
        for name, column in mapped.items()
        if column
    )
    kept = sum(len(batch.rows) for batch in batches)
    return [f"{part}: {columns}; of {ROWS} rows at most, {kept} pass the filters"], batches


def _what_refresh_does(settings: SourceSettings, why: str) -> str:
    kind = "incremental" if settings.source.incremental else "full"
    return (
        f"`fedrec-site refresh` ({kind}) would read {why}, replace ids by pseudonyms, and put the "
        "new tables in place as one set, or change nothing"
    )
