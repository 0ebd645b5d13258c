"""The canaries themselves: users with made-up histories, written into the simulated sites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.config import RunConfig
from common.errors import DataError
from common.holdout import UserSplit, hold_out
from common.interactions import Dataset, build_dataset
from common.pooled_sites import pool_of
from common.randomness import seeded_source
from common.site_folder import (
    INTERACTIONS_FILE,
    MANIFEST_FILE,
    USERS_FILE,
    SiteManifest,
    read_manifest,
    site_name,
    write_manifest,
)
from simulations.audit.binomial_bounds import Bools

PREFIX = "canary-"
LENGTH = 42  # items of a history, held-out ones among them: as many as a unit's targets
_SPARSE = 8  # of a small catalogue a history takes one in so many items, so that canaries differ
_LEAST = 6
_PAUSE_S = 60
_UNKNOWN = "unknown"


def canary_ids(canaries: int) -> tuple[str, ...]:
    """Names of the made-up users."""
    return tuple(f"{PREFIX}{number:05d}" for number in range(canaries))


def made_up(dataset: Dataset, seed: str, canaries: int) -> Dataset:
    """All canaries, in or not, as users of their own.

    A history is drawn from the public catalogue, uniformly and without looking at any user; its
    times are a minute apart, from the beginning of the data.

    Args:
        dataset: the real data: their catalogue, and what ratings and times look like.
        seed: of the secret, hex.
        canaries: m.
    """
    items = np.asarray(dataset.catalogue.item_ids, dtype=object)
    length = min(LENGTH, max(_LEAST, len(items) // _SPARSE), len(items))
    source = seeded_source(int(seed, 16), "canaries", "histories")
    drawn = np.stack([source.permutation(len(items))[:length] for _ in range(canaries)])
    start = int(dataset.interactions.timestamp.min())
    table = pa.table(
        {
            "user_id": np.repeat(np.asarray(canary_ids(canaries), dtype=object), length),
            "item_id": items[drawn.ravel()],
            "rating": np.full(drawn.size, float(dataset.interactions.rating.max())),
            "timestamp": np.tile(start + _PAUSE_S * np.arange(length), canaries),
        }
    )
    return build_dataset("canaries", table, dataset.catalogue, None, min_interactions=3)


def canary_splits(config: RunConfig, made: Dataset, attributes: Sequence[str]) -> list[UserSplit]:
    """What a site makes of each canary, in their order."""
    data = config.data
    splits = hold_out(
        made.interactions, made.catalogue, split=data.split, seed=data.seed, cut=data.cut
    )
    unknown = dict.fromkeys(attributes, _UNKNOWN)
    return [
        UserSplit(s.user_id, s.train, s.validation, s.test, unknown if attributes else {})
        for s in splits
    ]


def weave(sites: Path, config: RunConfig, made: Dataset, included: Bools) -> None:
    """Write the canaries that are in into the sites, in turn.

    What a site declares in public counts all of its canaries, so that it does not depend on the
    coins; what is in its files does, one unit for each coin.

    Args:
        sites: the federation's folder, made for this run.
        config: of the run.
        made: all canaries.
        included: ``[m]``, the coins.

    Raises:
        DataError: the sites lie in common files.
    """
    trained = [len(split.train.items) for split in canary_splits(config, made, ())]
    at = np.arange(len(included)) % config.data.sites
    for number in range(config.data.sites):
        folder = sites / site_name(number)
        if pool_of(folder) is not None:
            raise DataError(
                f"an audit run needs a folder for each site, and data.sites={config.data.sites} "
                "are pooled; set data.sites to at most 1000"
            )
        own = np.flatnonzero(at == number)
        _append(folder, made, own[included[own]])
        manifest = read_manifest(folder / MANIFEST_FILE, SiteManifest)
        update: dict[str, int] = {"declared_units": manifest.declared_units + len(own)}
        if manifest.declared_examples is not None:
            more = sum(trained[canary] for canary in own)
            update["declared_examples"] = manifest.declared_examples + more
        write_manifest(folder / MANIFEST_FILE, manifest.model_copy(update=update))


def _append(folder: Path, made: Dataset, canaries: np.ndarray) -> None:
    """Put these canaries at the end of a site's two tables."""
    rows, ids = made.interactions, np.asarray(made.interactions.user_ids, dtype=object)
    kept = np.isin(rows.user, canaries)
    items = np.asarray(made.catalogue.item_ids, dtype=object)
    more = {
        "user_id": ids[rows.user[kept]],
        "item_id": items[rows.item[kept]],
        "rating": rows.rating[kept],
        "timestamp": rows.timestamp[kept],
    }
    before = pq.read_table(folder / INTERACTIONS_FILE)
    added = pa.table({name: pa.array(more[name]) for name in before.column_names})
    pq.write_table(
        pa.concat_tables([before, added.cast(before.schema)]), folder / INTERACTIONS_FILE
    )
    users = pq.read_table(folder / USERS_FILE)
    unknown = [_UNKNOWN] * len(canaries)
    columns = {
        name: list(ids[canaries]) if name == "user_id" else unknown for name in users.column_names
    }
    table = pa.table(columns, schema=users.schema)
    pq.write_table(pa.concat_tables([users, table]), folder / USERS_FILE)
