"""The public catalogue of a site: the federation's own file, or the site's table of its items."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.source.columns import read_ids, read_labels, read_words
from client.source.places import refuse
from client.source.reading import Source, read_batches
from client.source.settings import ItemsTable
from client.source.text_template import fill_template, parse_template
from common.errors import DataError
from common.interaction_checks import natural_key
from common.interactions import Catalogue, build_catalogue
from common.table_readers import read_table

Item = tuple[str, str, tuple[str, ...]]


def read_catalogue(source: Source, place: ItemsTable, folder: Path) -> Catalogue:
    """The catalogue; its hash is the declared one, where one is declared.

    The site's own items are put in order by id (whole numbers by size, then names), since the
    order counts in the hash.

    Args:
        source: the open source.
        place: the section ``[items]``.
        folder: the site's, which a relative path begins at.

    Raises:
        DataError: it cannot be read, an item is wrong, or the hash is another.
    """
    if place.catalogue:
        catalogue = _from_file(folder / place.catalogue)
    else:
        items = sorted(_own_items(source, place), key=lambda item: natural_key(item[0]))
        if not items:
            raise DataError("items: no row is left; correct its table, query or filters")
        ids, texts, genres = zip(*items, strict=True)
        catalogue = Catalogue(ids, texts, genres)
    if place.catalogue_sha256 not in ("", catalogue.sha256):
        raise DataError(
            f"items: the catalogue of {len(catalogue)} items has SHA-256 {catalogue.sha256}, and "
            f"items.catalogue_sha256 declares {place.catalogue_sha256}; take the federation's "
            "items.parquet (items.catalogue), or correct the text template or the filters"
        )
    return catalogue


def _from_file(path: Path) -> Catalogue:
    if not path.is_file():
        raise DataError("items: its catalogue does not exist; correct items.catalogue")
    try:
        return build_catalogue(read_table(path))
    except DataError:
        raise DataError(
            "items: its catalogue is damaged, or no catalogue; fetch the federation's "
            "items.parquet again"
        ) from None


def _own_items(source: Source, place: ItemsTable) -> list[Item]:
    pieces = parse_template(place.text)
    columns = dict.fromkeys(piece.column for piece in pieces if piece.column)
    items: list[Item] = []
    row_of: dict[str, int] = {}
    for batch in read_batches(source, "items", place):
        ids = read_ids(batch, place.item_id).to_pylist()
        words = {column: read_words(batch, column) for column in columns}
        texts = fill_template(pieces, words)
        genres: list[tuple[str, ...]] = [()] * len(ids)
        if place.genres:
            genres = read_labels(batch, place.genres, place.genre_separator)
        empty = np.flatnonzero([not any(cells) for cells in zip(*words.values(), strict=True)])
        if len(empty):
            remedy = "give it a text (a title is enough), or leave it out with a filter"
            names = ", ".join(columns)
            refuse("items", names, int(batch.rows[empty[0]]), "has no text", remedy)
        for item_id, row in zip(ids, batch.rows.tolist(), strict=True):
            if row_of.setdefault(item_id, row) != row:
                what = f"repeats the id of row {row_of[item_id]}"
                refuse("items", place.item_id, row, what, "keep one row for each item")
        items += zip(ids, texts, genres, strict=True)
    return items
