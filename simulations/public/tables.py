"""What a reader of a public data set gives: raw tables, and impressions where there are some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import pyarrow as pa

from simulations.raw_tables import RawTables

BLOCK_ROWS = 1 << 16
INTERACTION_COLUMNS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.int64()),
        ("rating", pa.float32()),
    ]
)


class Interaction(NamedTuple):
    """One row of the interactions; `timestamp` in unix seconds."""

    user_id: str
    item_id: str
    timestamp: int
    rating: float = 1.0


class Item(NamedTuple):
    """One row of the catalogue."""

    item_id: str
    text: str
    genres: tuple[str, ...] = ()


class Impression(NamedTuple):
    """Items shown to a user at one time, and which of them were clicked."""

    user_id: str
    timestamp: int
    items: tuple[str, ...]
    clicked: tuple[bool, ...]


@dataclass(frozen=True)
class PublicData:
    """A data set as its files have it.

    Attributes:
        raw: Its tables.
        impressions: What users were shown; empty where the data set does not say.
    """

    raw: RawTables
    impressions: tuple[Impression, ...] = ()


def raw_tables(
    interactions: Iterable[Interaction],
    items: Iterable[Item],
    users: Mapping[str, Mapping[str, str]] | None = None,
) -> RawTables:
    """The Arrow tables of these rows.

    Args:
        interactions: In any order; taken in blocks, so that an iterator's rows are never all there.
        items: Distinct ids, texts that are not empty.
        users: Attributes by name of each user, the same names for all.
    """
    catalogue = list(items)
    people = users or {}
    attributes = list(next(iter(people.values()), {}))
    return RawTables(
        interactions=_table(interactions),
        items=pa.table(
            {
                "item_id": pa.array([each.item_id for each in catalogue], pa.string()),
                "text": pa.array([each.text for each in catalogue], pa.string()),
                "genres": pa.array(
                    [list(each.genres) for each in catalogue], pa.list_(pa.string())
                ),
            }
        ),
        users=pa.table(
            {
                "user_id": pa.array(list(people), pa.string()),
                **{
                    name: pa.array([values[name] for values in people.values()], pa.string())
                    for name in attributes
                },
            }
        ),
    )


def _table(rows: Iterable[Interaction]) -> pa.Table:
    left = iter(rows)
    blocks = []
    while block := list(islice(left, BLOCK_ROWS)):
        columns = zip(*block, strict=True)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, INTERACTION_COLUMNS, strict=True)]
        blocks.append(pa.record_batch(arrays, schema=INTERACTION_COLUMNS))
    return pa.Table.from_batches(blocks, schema=INTERACTION_COLUMNS)


def one_line(*parts: str, words: int = 60) -> str:
    """The parts that are not empty, joined to a text of at most `words` words."""
    text = ". ".join(part.strip().rstrip(".") for part in parts if part.strip())
    return " ".join(text.split()[:words])
