"""Partitions a data set whose interactions are larger than memory into a pool of sites.

The interactions' Parquet file is streamed twice through buckets on the disk: by user, so that
each bucket can be checked like a small data set, and by site, in the order of the pool. The
result is that of `simulations.partition.write_pool`. What is held in memory: the catalogue,
the users' ids and attributes, and one bucket.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.column_checks import SOURCE_KEY, check_columns, read_ids
from common.config import DataConfig
from common.errors import DataError
from common.holdout import train_lengths
from common.interaction_checks import Events, checked_users, natural_key, usable_events
from common.interactions import Catalogue, Int64Array, Interactions, Users, build_catalogue
from common.site_folder import ITEMS_FILE, interaction_table, user_table, write_catalogue
from simulations.item_side import with_item_side
from simulations.partition import new_federation
from simulations.pool_writer import PoolWriter
from simulations.tables_folder import INTERACTIONS, read_folder_table, source_columns
from simulations.user_partition import favourite_genres, split_users

COLUMNS = ("user_id", "item_id", "rating", "timestamp")
BUCKET_ROWS = 2_000_000
"""Interactions that are held at a time, as far as users and sites are not larger."""

MOST_FILES = 256
"""Buckets that are open at once; beyond `BUCKET_ROWS` times this many rows, they grow."""


@dataclass
class _Kept:
    """What is known of the users that stay, in the order of the buckets."""

    ids: list[str] = field(default_factory=list)
    lengths: list[Int64Array] = field(default_factory=list)
    trained: list[Int64Array] = field(default_factory=list)
    genres: list[str] = field(default_factory=list)


def can_be_streamed(dataset: str) -> bool:
    """Whether `data.dataset` is a folder whose interactions are one Parquet file."""
    return (Path(dataset).expanduser() / f"{INTERACTIONS}.parquet").is_file()


def stream_pool(config: DataConfig, folder: Path, *, bucket_rows: int = BUCKET_ROWS) -> None:
    """Checks, partitions and pools the data set of `config` without loading its interactions.

    Args:
        config: the run's `data` section; `dataset` is a folder that `can_be_streamed`.
        folder: the federation folder.
        bucket_rows: interactions to hold at a time.

    Raises:
        DataError: as `load_folder` and `write_pool`.
    """
    source = Path(config.dataset).expanduser()
    catalogue = with_item_side(build_catalogue(read_folder_table(source, "items")), config)
    with new_federation(folder) as new, tempfile.TemporaryDirectory(dir=new.parent) as scratch:
        by_user = _by_user(source, Path(scratch), bucket_rows)
        kept = _check_buckets(by_user, catalogue, config)
        order = sorted(range(len(kept.ids)), key=lambda i: natural_key(kept.ids[i]))
        ids = tuple(kept.ids[i] for i in order)
        lengths = np.concatenate(kept.lengths)[order]
        trained = np.concatenate(kept.trained)[order]
        genres = [kept.genres[i] for i in order] if kept.genres else None
        raw_users = read_folder_table(source, "users", is_optional=True)
        users = Users(ids, checked_users(raw_users, ids)[0])
        name = source.resolve().name
        parts = split_users(users, name, config, genres)
        write_catalogue(new / ITEMS_FILE, catalogue)
        writer = PoolWriter(new, name, catalogue.sha256, config.min_interactions)
        with writer:
            pool = _PoolOrder(parts, lengths, bucket_rows)
            files = pool.scatter(by_user, ids, Path(scratch))
            pool.write(writer, files, catalogue, users, trained)


def _by_user(source: Path, scratch: Path, bucket_rows: int) -> list[Path]:
    """Raw rows in buckets by user: all of a user's rows in one."""
    path = source / f"{INTERACTIONS}.parquet"
    names = source_columns(source, INTERACTIONS)
    try:
        with pq.ParquetFile(path, memory_map=True) as file, ExitStack() as stack:
            wanted = [n for n in (names.get(c, c) for c in COLUMNS) if n in file.schema_arrow.names]
            buckets = min(MOST_FILES, max(1, -(-file.metadata.num_rows // bucket_rows)))
            files = [scratch / f"users-{number}.parquet" for number in range(buckets)]
            writers: dict[int, pq.ParquetWriter] = {}
            canonical = {name: column for column, name in names.items()}
            for batch in file.iter_batches(batch_size=131_072, columns=wanted):
                table = pa.Table.from_batches([batch])
                table = table.rename_columns([canonical.get(n, n) for n in table.column_names])
                check_columns(table, str(path), ["user_id", "item_id", "timestamp"])
                for number, part in _split(table, _bucket_of(table, str(path), buckets)):
                    if number not in writers:
                        writer = pq.ParquetWriter(files[number], part.schema)
                        writers[number] = stack.enter_context(writer)
                    writers[number].write_table(part)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a Parquet file ({reason}); write it anew") from error
    return [file for file in files if file.exists()]


def _bucket_of(table: pa.Table, where: str, buckets: int) -> Int64Array:
    encoded = read_ids(table, "user_id", where).dictionary_encode()
    of_id = [zlib.crc32(each.encode()) % buckets for each in encoded.dictionary.to_pylist()]
    bucket: Int64Array = np.asarray(of_id, dtype=np.int64)[encoded.indices.to_numpy()]
    return bucket


def _check_buckets(buckets: list[Path], catalogue: Catalogue, config: DataConfig) -> _Kept:
    """Checks each bucket and leaves in its place what can be used, by user."""
    kept = _Kept()
    needs_genres = config.partition == "dirichlet" and config.partition_by == "genre"
    for path in buckets:
        table = pq.read_table(path).replace_schema_metadata(
            {SOURCE_KEY: f"{config.dataset}/{INTERACTIONS}.parquet (in its part {path.stem})"}
        )
        events, _ = usable_events(table, catalogue.item_ids, config.min_interactions)
        users = len(events.user_ids)
        kept.ids += events.user_ids
        kept.lengths.append(np.bincount(events.user, minlength=users).astype(np.int64))
        kept.trained.append(
            train_lengths(events.user, events.timestamp, users, split=config.split, cut=config.cut)
        )
        if needs_genres:
            kept.genres += favourite_genres(_interactions(events), catalogue, config.dataset)
        pq.write_table(_event_table(events), path)
    if not kept.ids:
        raise DataError(
            f"{config.dataset}: no user has {config.min_interactions} usable interactions; add "
            "data or lower data.min_interactions"
        )
    return kept


class _PoolOrder:
    """Brings checked interactions into the order of the pool, some sites at a time."""

    def __init__(self, parts: list[Int64Array], lengths: Int64Array, bucket_rows: int) -> None:
        self._parts = parts
        self._site_of_user = np.zeros(len(lengths), dtype=np.int64)
        for number, part in enumerate(parts):
            self._site_of_user[part] = number
        rows = np.bincount(self._site_of_user, weights=lengths, minlength=len(parts))
        self.rows = rows.astype(np.int64)  # [S]
        before = np.cumsum(self.rows) - self.rows
        range_rows = max(bucket_rows, -(-int(self.rows.sum()) // MOST_FILES))
        self._range_of_site = before // range_rows  # [S], non-decreasing

    def scatter(self, by_user: list[Path], ids: tuple[str, ...], scratch: Path) -> list[Path]:
        """The rows in one file for each range of sites, users by their place in `ids`."""
        index = {user_id: place for place, user_id in enumerate(ids)}
        ranges = np.unique(self._range_of_site)
        files = {int(number): scratch / f"sites-{number}.parquet" for number in ranges}
        with ExitStack() as stack:
            writers: dict[int, pq.ParquetWriter] = {}
            for path in by_user:
                table = pq.read_table(path)
                names = table.column("user_id").combine_chunks().dictionary_encode()
                places = np.asarray([index[i] for i in names.dictionary.to_pylist()], np.int64)
                user = places[names.indices.to_numpy()]
                table = table.drop_columns("user_id").append_column("user", pa.array(user))
                for number, part in _split(table, self._range_of_site[self._site_of_user[user]]):
                    if number not in writers:
                        writer = pq.ParquetWriter(files[number], part.schema)
                        writers[number] = stack.enter_context(writer)
                    writers[number].write_table(part)
                path.unlink()  # its rows are in the other files now
        return list(files.values())

    def write(
        self,
        writer: PoolWriter,
        files: list[Path],
        catalogue: Catalogue,
        users: Users,
        trained: Int64Array,
    ) -> None:
        """Hands the sites to `writer`, range after range."""
        for number, path in zip(np.unique(self._range_of_site), files, strict=True):
            first, end = np.searchsorted(self._range_of_site, [number, number + 1])
            parts = self._parts[first:end]
            table = pq.read_table(path)
            user, item, rating, timestamp = (
                table.column(name).to_numpy() for name in ("user", "item", "rating", "timestamp")
            )
            # A user's rows stand together and in time, and stay so.
            order = np.lexsort((user, self._site_of_user[user]))
            here, local = np.unique(user, return_inverse=True)
            ids = tuple(users.user_ids[place] for place in here)
            interactions = Interactions(ids, local.astype(np.int64), item, rating, timestamp)
            writer.add(
                interaction_table(interactions, catalogue, order),
                user_table(users, np.concatenate(parts)),
                rows=self.rows[first:end],
                users_of_site=np.array([len(part) for part in parts]),
                examples=np.array([trained[part].sum() for part in parts]),
            )


def _split(table: pa.Table, number_of_row: Int64Array) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each number, in their order."""
    order = np.argsort(number_of_row, kind="stable")
    numbers, starts = np.unique(number_of_row[order], return_index=True)
    taken = table.take(pa.array(order))
    ends = np.append(starts, len(order))[1:]
    for number, start, end in zip(numbers, starts, ends, strict=True):
        yield int(number), taken.slice(start, end - start)


def _interactions(events: Events) -> Interactions:
    return Interactions(events.user_ids, events.user, events.item, events.rating, events.timestamp)


def _event_table(events: Events) -> pa.Table:
    user_ids = np.asarray(events.user_ids, dtype=object)
    return pa.table(
        {
            "user_id": pa.array(user_ids[events.user], pa.string()),
            "item": pa.array(events.item),
            "rating": pa.array(events.rating),
            "timestamp": pa.array(events.timestamp),
        }
    )
