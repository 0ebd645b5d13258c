"""The items that may score best, found without scoring all of them; for large catalogues.

An inverted file over clusters of items (faiss) finds the largest products of a query with rows
in four bits for four numbers (product quantisation). A row is an item's text part as the score
reads it, before and after the head, and its bias (the prior) as one more number, whose place in
the query is 1. What is no product of that kind goes another way: items with a code of the head
or with item-to-item weights, which are few, are candidates of every request. `ItemIndex.best`
scores all candidates exactly.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from common.atomic_files import file_errors, write_bytes
from common.errors import RunFolderError
from common.tensor_files import read_tensors, tensors_to_bytes

if TYPE_CHECKING:
    from common.item_index import ItemIndex

FROM_ITEMS = 100_000
"""Catalogues up to this size are scored whole."""
DEPTH = 1_000
"""Fewest candidates of a request, beside those of every request."""
PROBED = 0.5
"""Share of the clusters that a request looks into; more find more, and take longer."""
_TRAINING_ROWS = 64
_PART = 4  # numbers that share a code
_SUFFIX = ".index"
_KEPT_FILES = 2  # the current adapter's, and the one to go back to
_FORMAT = "ivf-pq4-1"

logger = logging.getLogger(__name__)

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ApproximateIndex:
    """Candidates for a query.

    Attributes:
        found: faiss' index of all items.
        columns: ``[e]``, the parts of a query that it reads.
        always: ``[A]``, candidates of every request.
    """

    found: Any
    columns: Int64Array
    always: Int64Array

    def candidates(self, query: Float32Array, count: int) -> Int64Array:
        """Items, rising, each once: the `count` best that were found, and those of every request.

        Args:
            query: ``[w]``, as `ItemIndex.queries` has it.
            count: how many; fewer are found where clusters are small.
        """
        asked = np.zeros((1, self.found.d), dtype=np.float32)
        width = len(self.columns)
        asked[0, :width], asked[0, width] = query[self.columns], 1.0
        _, places = self.found.search(asked, count)
        near: Int64Array = places[0]
        return np.union1d(near[near >= 0], self.always)


def approximate_index(index: ItemIndex, folder: Path | None) -> ApproximateIndex | None:
    """The index of candidates: what is kept of it in `folder`, or built and kept there.

    None where faiss is not installed: then every request scores the whole catalogue.

    Args:
        index: of the items.
        folder: of files that this process may write and remove; None: nothing is kept.
    """
    try:
        import faiss
    except ImportError:
        logger.warning(
            "faiss is not installed (pip install 'fedrec[fast]'): each request scores all "
            "%d items, which takes long",
            len(index),
        )
        return None
    columns = index.text_columns()
    used = len(columns) + 1
    rows = np.zeros((len(index), -(-used // _PART) * _PART), dtype=np.float32)
    rows[:, : used - 1], rows[:, used - 1] = index.vectors.numpy()[:, columns], index.bias.numpy()
    key = hashlib.sha256(f"{_FORMAT} {faiss.__version__} {rows.shape}".encode())
    key.update(rows.data)
    path = None if folder is None else folder / f"{key.hexdigest()[:32]}{_SUFFIX}"
    content = None if path is None else _kept(path)
    found: Any
    if content is not None:
        found = faiss.deserialize_index(content)
    else:
        logger.info("indexing %d items", len(rows))
        found = _built(rows)
        if path is not None:
            _keep(path, faiss.serialize_index(found))
    found.nprobe = max(1, round(PROBED * found.nlist))
    return ApproximateIndex(found, columns, index.singular_items())


def _built(rows: Float32Array) -> Any:
    """Clusters of rows, from a seeded sample, and every row's codes beside its cluster."""
    import faiss

    count, width = rows.shape
    clusters = int(np.clip(2 * np.sqrt(count), 1, max(1, count // _TRAINING_ROWS)))
    coarse = faiss.IndexFlatIP(width)
    built = faiss.IndexIVFPQFastScan(
        coarse, width, clusters, width // _PART, 4, faiss.METRIC_INNER_PRODUCT
    )
    built.by_residual = False
    built.cp.niter, built.cp.seed, built.cp.spherical = 8, 1, False
    sample = np.random.default_rng(0).permutation(count)[: clusters * _TRAINING_ROWS]
    built.train(np.ascontiguousarray(rows[np.sort(sample)]))
    built.add(rows)
    return built


def _kept(path: Path) -> npt.NDArray[np.uint8] | None:
    """The bytes in `path`, if they are those that were written."""
    if not path.exists():
        return None
    try:
        tensors, texts = read_tensors(path)
        content = tensors["index"]
    except (RunFolderError, SafetensorError, KeyError, ValueError):
        content, texts = np.zeros(0, dtype=np.uint8), {}
    if hashlib.sha256(content.data).hexdigest() == texts.get("sha256"):
        return content
    logger.warning("%s is damaged; the index is built anew", path)
    return None


def _keep(path: Path, content: npt.NDArray[np.uint8]) -> None:
    """Writes it beside the one before; what the disk refuses costs a build at the next start."""
    try:
        with file_errors("make", path.parent):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(content.data).hexdigest()
        write_bytes(path, tensors_to_bytes({"index": content}, {"sha256": digest}), mode=0o600)
        with file_errors("clear", path.parent):
            files = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda each: each.stat().st_mtime)
            for old in files[:-_KEPT_FILES]:
                old.unlink(missing_ok=True)
    except RunFolderError as error:
        logger.warning("the index of items is not kept: %s", error)
