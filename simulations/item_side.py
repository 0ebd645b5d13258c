"""What a run's `data` section adds to its catalogue: item vectors, and what the graph makes.

It is made once, where the data are loaded, and becomes part of the catalogue: sites get the
finished texts and numbers in ``items.parquet``, held to the catalogue's hash, and need neither
the graph nor this code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config import DataConfig
from common.errors import DataError
from common.interactions import Catalogue
from common.item_vectors import COLUMN, ItemVectors, checked_vectors, read_item_vectors
from simulations.item_graph import read_item_graph


def with_item_side(catalogue: Catalogue, data: DataConfig) -> Catalogue:
    """`catalogue` with the vectors and the graph that `data` names; itself where it names none.

    Raises:
        DataError: A file is wrong, or there are two sources of vectors, or none to average.
    """
    if data.item_vectors:
        if catalogue.vectors is not None:
            raise DataError(
                f"data.item_vectors: the items table has a column {COLUMN} already; drop one"
            )
        path = Path(data.item_vectors).expanduser()
        catalogue = replace(catalogue, vectors=read_item_vectors(path, catalogue.item_ids))
    if not data.item_graph:
        return catalogue
    graph = read_item_graph(data.item_graph, catalogue)
    if data.item_graph_as == "text":
        return replace(catalogue, texts=graph.texts(catalogue.texts, data.item_graph_size))
    own = None if catalogue.vectors is None else catalogue.vectors.values.astype(np.float64)
    if data.item_graph_as == "vectors":
        return _with(catalogue, _side_by_side(own, graph.vectors(data.item_graph_size)))
    if own is None:
        raise DataError(
            "data.item_graph_as=neighbours needs item vectors to average; set data.item_vectors, "
            "or data.item_graph_as=vectors"
        )
    return _with(catalogue, graph.with_neighbours(own, data.item_graph_size))


def _with(catalogue: Catalogue, values: NDArray[np.float64]) -> Catalogue:
    vectors: ItemVectors = checked_vectors(catalogue.item_ids, list(values), "data.item_graph")
    return replace(catalogue, vectors=vectors)


def _side_by_side(
    own: NDArray[np.float64] | None, graph: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Both beside each other, the graph's spread made equal to that of the items' own."""
    if own is None:
        return graph
    spreads = [np.sqrt(each.var(axis=0).sum()) for each in (own, graph)]
    return np.concatenate([own, graph * (spreads[0] / spreads[1])], axis=1)
