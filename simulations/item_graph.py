"""The item graph: public links of items to genres, people and other entities.

Read from the catalogue's own genres, from a table ``item_id, entity``, or from RecBole's files:
``NAME.kg`` (``head_id:token  relation_id:token  tail_id:token``) with ``NAME.link``
(``item_id:token  entity_id:token``) beside it. Items that share a rare entity are near, items
that share a common one a little; an entity of one item, or of all, says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

from common.column_checks import check_columns, read_ids, source_of
from common.errors import DataError
from common.interactions import Catalogue
from common.table_readers import read_table

GENRES = "genres"
_CODE = re.compile(r"^[mgQ]\.?[0-9][0-9a-z_]*$")  # of Freebase and Wikidata: no names
_AT_ONCE = 1000
_DENSE = 500

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ItemGraph:
    """Links of V items to E entities that at least two items, and not all, have.

    Attributes:
        entities: E names, sorted.
        weights: ``[V, E]``: rarity of the entity, in rows of length 1 (or 0: no link).
    """

    entities: tuple[str, ...]
    weights: sp.csr_array

    def vectors(self, width: int) -> FloatArray:
        """``[V, ≤ width]``: the links' strongest directions, so that inner products stay near."""
        width = min(width, *self.weights.shape)
        if min(self.weights.shape) <= max(_DENSE, width):
            directions = np.linalg.svd(self.weights.toarray(), full_matrices=False)[2][:width].T
        else:
            start = np.ones(min(self.weights.shape))
            directions = svds(self.weights, k=width, v0=start)[2][::-1].T
        largest = np.abs(directions).argmax(axis=0)
        signs = np.sign(directions[largest, np.arange(width)])
        found: FloatArray = self.weights @ (directions * signs)
        return found

    def with_neighbours(self, vectors: FloatArray, most: int) -> FloatArray:
        """``[V, w]``: the mean of each item's vector and the mean of its nearest neighbours'.

        An item without neighbours keeps its own; each neighbour counts by its nearness.
        """
        out = vectors.copy()
        for start in range(0, len(vectors), _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, len(vectors)))
            near = (self.weights[rows] @ self.weights.T).toarray()
            near[np.arange(len(rows)), rows] = 0
            order = np.argsort(-near, axis=1, kind="stable")[:, :most]
            weights = np.take_along_axis(near, order, axis=1)
            total = weights.sum(axis=1, keepdims=True)
            mean = (weights[..., None] * vectors[order]).sum(1) / np.maximum(total, 1e-12)
            out[rows] = np.where(total > 0, (vectors[rows] + mean) / 2, vectors[rows])
        return out

    def texts(self, texts: Sequence[str], most: int) -> tuple[str, ...]:
        """Each text with the names of its rarest linked entities that it does not have yet.

        Raises:
            DataError: the entities are codes without names.
        """
        codes = sum(bool(_CODE.match(name)) for name in self.entities)
        if 2 * codes > len(self.entities):
            raise DataError(
                f"data.item_graph: {codes} of {len(self.entities)} entities are codes such as "
                f"{self.entities[0]!r}, and no words; set data.item_graph_as=vectors"
            )
        return tuple(self._text(row, text, most) for row, text in enumerate(texts))

    def _text(self, row: int, text: str, most: int) -> str:
        start, end = self.weights.indptr[row : row + 2]
        links = zip(self.weights.data[start:end], self.weights.indices[start:end], strict=True)
        ranked = [self.entities[at] for _, at in sorted(links, key=lambda one: (-one[0], one[1]))]
        new = [name for name in ranked if name.lower() not in text.lower()][:most]
        return f"{text.rstrip('.')}. Linked: {', '.join(new)}" if new else text


def read_item_graph(source: str, catalogue: Catalogue) -> ItemGraph:
    """The graph of the catalogue's items that ``data.item_graph`` names.

    Raises:
        DataError: A file is missing or damaged, or no entity links two of the items.
    """
    if source == GENRES:
        links = [(row, name) for row, names in enumerate(catalogue.genres) for name in names]
        return _graph(links, len(catalogue), "data.item_graph=genres")
    path = Path(source).expanduser()
    place = {item_id: row for row, item_id in enumerate(catalogue.item_ids)}
    if path.suffix == ".kg":
        return _graph(_recbole(path, place), len(catalogue), str(path))
    items, entities = _columns(path, "item_id", "entity")
    found = [(place[i], e) for i, e in zip(items, entities, strict=True) if i in place]
    return _graph(found, len(catalogue), str(path))


def _recbole(path: Path, place: dict[str, int]) -> list[tuple[int, str]]:
    """Links of items to entities, whichever end of a triple the item is.

    Where an item is linked to another item, that one counts as an entity of both.
    """
    rows: dict[str, list[int]] = {}
    seen: dict[str, str] = {}
    for item_id, entity in zip(
        *_columns(path.with_suffix(".link"), "item_id", "entity_id"), strict=True
    ):
        if seen.setdefault(item_id, entity) != entity:
            raise DataError(
                f"{path.with_suffix('.link')}: item {item_id!r} has two entities; keep one"
            )
        if item_id in place:
            rows.setdefault(entity, []).append(place[item_id])
    links: set[tuple[int, str]] = set()
    for head, tail in zip(*_columns(path, "head_id", "tail_id"), strict=True):
        for row in rows.get(head, ()):
            links.add((row, tail))
            links.update((other, tail) for other in rows.get(tail, ()))
        if head not in rows:
            links.update((row, head) for row in rows.get(tail, ()))
    return sorted(links)


def _columns(path: Path, *names: str) -> list[list[str]]:
    table = read_table(path)
    where = source_of(table, "graph")
    check_columns(table, where, names)
    return [read_ids(table, name, where).to_pylist() for name in names]


def _graph(links: Iterable[tuple[int, str]], items: int, where: str) -> ItemGraph:
    rows_of: dict[str, set[int]] = {}
    for row, name in links:
        rows_of.setdefault(name, set()).add(row)
    kept = {name: rows for name, rows in sorted(rows_of.items()) if 1 < len(rows) < items}
    if not kept:
        raise DataError(
            f"{where}: no entity links two of the {items} items and not all; check that its item "
            "ids are the catalogue's"
        )
    rows = np.concatenate([sorted(each) for each in kept.values()])
    counts = np.array([len(each) for each in kept.values()])
    columns = np.repeat(np.arange(len(kept)), counts)
    rarity = np.log(items / counts)[columns]
    length = np.sqrt(np.bincount(rows, weights=rarity**2, minlength=items))
    weights = sp.csr_array((rarity / length[rows], (rows, columns)), shape=(items, len(kept)))
    weights.sort_indices()
    return ItemGraph(tuple(kept), weights)
