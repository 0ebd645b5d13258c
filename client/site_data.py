"""A site's own data: read from its folder, checked again, and split in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from client.source.settings_file import SOURCE_FILE, read_name
from common.atomic_files import file_errors
from common.check_report import CheckReport
from common.config import RunConfig
from common.errors import DataError, PolicyRefusal
from common.holdout import TimeCut, UserSplit, hold_out
from common.interactions import Catalogue, Interactions, Users, build_catalogue, build_dataset
from common.pooled_sites import pool_of
from common.shown_items import Shown, shown_items
from common.site_folder import (
    INTERACTIONS_FILE,
    ITEMS_FILE,
    MANIFEST_FILE,
    SHOWN_FILE,
    USERS_FILE,
    SiteManifest,
    read_manifest,
)
from common.table_readers import read_table
from common.unit_texts import PrivacyUnit


@dataclass(frozen=True, eq=False)
class SiteData:
    """What a site holds. Only `site`, the declared numbers and the catalogue are public.

    Attributes:
        site: Name of the site.
        declared_units: Number of users that the site declares, a public figure.
        simulated: Whether the site is part of a simulation on one machine.
        catalogue: The public items, the same at every site.
        interactions: The users' interactions; private.
        users: The users' attributes; private.
        report: What the checks left out; private.
        declared_examples: Number of training examples that the site declares, if it does.
        population: What the site's ledger is bound to where its users come and go.
        shown: What users were shown and did not click; private. None: the site does not say.
    """

    site: str
    declared_units: int
    simulated: bool
    catalogue: Catalogue
    interactions: Interactions
    users: Users
    report: CheckReport
    declared_examples: int | None = None
    population: str | None = None
    shown: Shown | None = None

    @property
    def ledger_subject(self) -> Sequence[str]:
        """Whom the ledger is bound to: the population, or else the very users that there are."""
        return self.users.user_ids if self.population is None else (self.population,)

    def shown_for(self, config: RunConfig) -> Shown | None:
        """What was shown and not clicked, where it is to train.

        Raises:
            DataError: It is to train, and the site does not say what was shown.
        """
        if not config.data.shown_negatives:
            return None
        if self.shown is None:
            raise DataError(
                f"data.shown_negatives=true, and site {self.site} has no {SHOWN_FILE}; put it "
                "beside its interactions (user_id, item_id, timestamp), or set "
                "data.shown_negatives=false"
            )
        return self.shown

    def declared(self, unit: PrivacyUnit) -> int:
        """The public number of units of this sort, which sums are divided by.

        Raises:
            PolicyRefusal: The site declares none.
        """
        if unit == "example":
            return declared_examples(self.site, self.declared_examples)
        return self.declared_units

    def splits(self, split: str, seed: int, cut: TimeCut | None = None) -> list[UserSplit]:
        """The users' temporal hold-out; see `common.holdout.hold_out`."""
        return hold_out(
            self.interactions, self.catalogue, split=split, seed=seed, cut=cut, users=self.users
        )


def declared_examples(site: str, declared: int | None) -> int:
    """The public number of examples.

    Raises:
        PolicyRefusal: The site declares none.
    """
    if declared is None:
        raise PolicyRefusal(
            f"privacy.unit=example needs a public number of examples, and site {site} "
            f"declares none; set declared_examples in its {MANIFEST_FILE}, or in its {SOURCE_FILE}"
        )
    return declared


def load_site(folder: Path) -> SiteData:
    """Read and check a site's data.

    Args:
        folder: The site's folder (format: `common.site_folder`); of a pooled site
            (`common.pooled_sites`) the one for its ledger and keys, which is made.

    Raises:
        DataError: A file is missing or damaged, the catalogue is not the declared one, or the
            site has no users.
    """
    manifest, interactions, users = _read_tables(folder)
    catalogue = _load_catalogue(folder, manifest)
    if interactions.num_rows == 0:
        raise DataError(
            f"{folder}: site {manifest.site!r} has no users; give it data or leave it out"
        )
    dataset = build_dataset(
        manifest.dataset,
        interactions,
        catalogue,
        users,
        min_interactions=manifest.min_interactions,
    )
    return SiteData(
        site=manifest.site,
        declared_units=manifest.declared_units,
        simulated=manifest.simulated,
        catalogue=catalogue,
        interactions=dataset.interactions,
        users=dataset.users,
        report=dataset.report,
        declared_examples=manifest.declared_examples,
        population=manifest.population,
        shown=_shown(folder, manifest, catalogue),
    )


def federation_catalogue(federation: Path) -> Catalogue:
    """The public items of a simulated federation, in either layout.

    Raises:
        DataError: There are none, or they are damaged.
    """
    return _catalogue_at(federation / ITEMS_FILE)


def declared_name(folder: Path) -> str:
    """The public name of the site in `folder`, also before its first refresh; no data are read.

    Raises:
        DataError: There is no such site.
        ConfigError: Its ``source.toml`` has no name.
    """
    if pool_of(folder):
        return folder.name
    if has_no_tables_yet(folder):
        return read_name(folder)
    return read_manifest(folder / MANIFEST_FILE, SiteManifest).site


def has_no_tables_yet(folder: Path) -> bool:
    """Whether the site was begun and its source was not read yet."""
    return (folder / SOURCE_FILE).is_file() and not (folder / MANIFEST_FILE).exists()


def _read_tables(folder: Path) -> tuple[SiteManifest, pa.Table, pa.Table | None]:
    """What the site states, its interactions and its users, in either layout."""
    pool = pool_of(folder)
    if pool is not None:
        manifest = pool.site_manifest(folder.name)
        with file_errors("make", folder):
            folder.mkdir(exist_ok=True)
        return manifest, *pool.tables(folder.name)
    if not folder.is_dir():
        remedy = "make it with `fedrec-site init`, or with `fedrec data partition`"
        raise DataError(f"{folder}: no such site folder; {remedy}")
    manifest = read_manifest(folder / MANIFEST_FILE, SiteManifest)
    tables = folder / manifest.tables
    interactions = read_table(tables / INTERACTIONS_FILE)
    users_file = tables / USERS_FILE
    return manifest, interactions, read_table(users_file) if users_file.exists() else None


def _shown(folder: Path, manifest: SiteManifest, catalogue: Catalogue) -> Shown | None:
    path = folder / manifest.tables / SHOWN_FILE
    return shown_items(read_table(path), catalogue, str(path)) if path.is_file() else None


def _load_catalogue(folder: Path, manifest: SiteManifest) -> Catalogue:
    """The catalogue that the manifest names, or the folder's own where that is absent."""
    named = folder / manifest.catalogue
    path = (named if named.is_file() else folder / ITEMS_FILE).resolve()
    if not path.is_file():
        raise DataError(f"{named}: no such file; restore the catalogue beside the site's folder")
    catalogue = _catalogue_at(path)
    if catalogue.sha256 != manifest.catalogue_sha256:
        raise DataError(
            f"{path}: catalogue has SHA-256 {catalogue.sha256}, {folder / MANIFEST_FILE} declares "
            f"{manifest.catalogue_sha256}; use the federation's catalogue"
        )
    return catalogue


def _catalogue_at(path: Path) -> Catalogue:
    if not path.is_file():
        raise DataError(f"{path}: no such file; restore the catalogue beside the sites' folders")
    status = path.stat()
    return _cached_catalogue(path.resolve(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _cached_catalogue(path: Path, modified_ns: int, size: int) -> Catalogue:
    """One catalogue object for all sites of a process; a changed file is read anew."""
    return build_catalogue(read_table(path))
