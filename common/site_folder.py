"""The format of a site's folder, shared by who writes it and the site that reads it.

::

    FEDERATION/
        sites.json            the sites, in order
        items.parquet         the catalogue, once for all sites
        site-0000/
            site.json         the manifest, `SiteManifest`
            interactions.parquet
            users.parquet
            shown.parquet     optional: what was shown and not clicked (`common.shown_items`)

A site that is fed from a source of its own (`client.source`) has its tables in ``data/NNNNNN``
instead, which its manifest names. A manifest names its catalogue relative to its folder;
``../items.parquet`` in a simulated federation, ``items.parquet`` (the default) at a site that
stands alone. Where there are very many sites, their rows lie in common files instead
(`common.pooled_sites`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import DataError
from common.interactions import Catalogue, Interactions, Users
from common.item_vectors import COLUMN

SITES_FILE = "sites.json"
POOL_FILE = "pool.json"
MANIFEST_FILE = "site.json"
ITEMS_FILE = "items.parquet"
INTERACTIONS_FILE = "interactions.parquet"
USERS_FILE = "users.parquet"
SHOWN_FILE = "shown.parquet"


class Manifest(BaseModel):
    """What every manifest has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1


class SiteManifest(Manifest):
    """What a site declares in public about its folder.

    Attributes:
        site: Name of the site.
        declared_units: Number of users that the site declares, a public figure.
        declared_examples: Number of training examples that it declares, a public figure;
            runs with `privacy.unit` = example need it.
        dataset: Name of the data set.
        catalogue: Path of the items, relative to the site's folder.
        catalogue_sha256: `Catalogue.sha256` that the items must have.
        simulated: Whether the site is part of a simulation on one machine.
        min_interactions: Users with fewer interactions are left out.
        tables: Folder of the interactions and users, relative to the site's folder; empty:
            they lie in that folder itself.
        population: What the ledger is bound to, where users come and go; None: to the users
            that the site has. See `client.source.pseudonyms`.
    """

    site: str = Field(min_length=1)
    declared_units: int = Field(ge=1)
    declared_examples: int | None = Field(None, ge=1)
    dataset: str
    catalogue: str = ITEMS_FILE
    catalogue_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    simulated: bool = False
    min_interactions: int = Field(3, ge=3)
    tables: str = Field("", pattern="^(data/[0-9]{6})?$")
    population: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class SitesManifest(Manifest):
    """The sites of a federation folder: names of its sub-folders, in order."""

    dataset: str
    catalogue_sha256: str
    sites: tuple[str, ...]


ManifestT = TypeVar("ManifestT", bound=Manifest)


def read_manifest(path: Path, kind: type[ManifestT]) -> ManifestT:
    """Read and check ``site.json`` (`SiteManifest`) or ``sites.json`` (`SitesManifest`).

    Raises:
        DataError: The file is missing, unreadable, or breaks the format; lists every fault.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        remedy = "make the folder with `fedrec data partition`"
        raise DataError(f"{path}: no such file; {remedy}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise DataError(f"{path}: {faults}; correct it or make the folder anew") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest as indented JSON (the caller makes the write atomic)."""
    path.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def site_name(number: int) -> str:
    """The name of a simulated site: that of its folder, and of its random streams."""
    return f"site-{number:04d}"


def read_sites(folder: Path) -> list[Path]:
    """The folders of a federation's sites, in order; not for a pooled one, where most are absent.

    Raises:
        DataError: ``sites.json`` is missing, unreadable, or breaks the format.
    """
    manifest = read_manifest(folder / SITES_FILE, SitesManifest)
    return [folder / site for site in manifest.sites]


def write_catalogue(path: Path, catalogue: Catalogue) -> None:
    """Write the items as Parquet: item_id, text, genres, and item_vector where there are some."""
    columns = {
        "item_id": pa.array(catalogue.item_ids, pa.string()),
        "text": pa.array(catalogue.texts, pa.string()),
        "genres": pa.array([list(g) for g in catalogue.genres], pa.list_(pa.string())),
    }
    if catalogue.vectors is not None:
        flat = pa.array(catalogue.vectors.values.ravel(), pa.float32())
        columns[COLUMN] = pa.FixedSizeListArray.from_arrays(flat, catalogue.vectors.width)
    pq.write_table(pa.table(columns), path)


def write_interactions(
    path: Path, interactions: Interactions, catalogue: Catalogue, rows: npt.NDArray[Any]
) -> None:
    """Write the given rows as Parquet: user_id, item_id, rating, timestamp."""
    pq.write_table(interaction_table(interactions, catalogue, rows), path)


def interaction_table(
    interactions: Interactions, catalogue: Catalogue, rows: npt.NDArray[Any]
) -> pa.Table:
    """The given rows as a table: user_id, item_id, rating, timestamp."""
    user_ids = np.asarray(interactions.user_ids, dtype=object)
    item_ids = np.asarray(catalogue.item_ids, dtype=object)
    columns = {
        "user_id": pa.array(user_ids[interactions.user[rows]], pa.string()),
        "item_id": pa.array(item_ids[interactions.item[rows]], pa.string()),
        "rating": pa.array(interactions.rating[rows]),
        "timestamp": pa.array(interactions.timestamp[rows]),
    }
    return pa.table(columns)


def write_users(path: Path, users: Users, rows: npt.NDArray[Any]) -> None:
    """Write the given users as Parquet: user_id and every attribute."""
    pq.write_table(user_table(users, rows), path)


def user_table(users: Users, rows: npt.NDArray[Any]) -> pa.Table:
    """The given users as a table: user_id and every attribute."""
    columns = {"user_id": users.user_ids, **users.attributes}
    arrays = {
        name: pa.array([values[row] for row in rows], pa.string())
        for name, values in columns.items()
    }
    return pa.table(arrays)
