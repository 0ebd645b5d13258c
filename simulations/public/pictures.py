"""Items with vectors: of pictures, sound, or anything that a public model made numbers of.

``interactions.tsv`` (``user_id  item_id  timestamp``), ``items.tsv`` (``item_id  text``) and
``vectors.npz`` (arrays ``item_id`` and ``vectors``). Every item needs a text and a vector.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from common.column_checks import check_columns, read_ids, source_of
from common.item_vectors import COLUMN, read_item_vectors
from common.table_readers import read_table
from simulations.public.lines import found_files
from simulations.public.tables import PublicData
from simulations.raw_tables import RawTables

INTERACTIONS, ITEMS, VECTORS = "interactions.tsv", "items.tsv", "vectors.npz"


def read_pictures(folder: Path) -> PublicData:
    """Read the three files of `folder`.

    Raises:
        DataError: One is missing or wrong, or an item has no vector.
    """
    interactions_file, items_file, vectors_file = (
        found_files(folder, name)[0] for name in (INTERACTIONS, ITEMS, VECTORS)
    )
    items = read_table(items_file)
    where = source_of(items, "items")
    check_columns(items, where, ["item_id", "text"])
    ids = read_ids(items, "item_id", where).to_pylist()
    vectors = read_item_vectors(vectors_file, ids)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.values.ravel()), vectors.width)
    users = pa.table({"user_id": pa.array([], pa.string())})
    interactions = read_table(interactions_file)
    return PublicData(RawTables(interactions, items.append_column(COLUMN, column), users))
