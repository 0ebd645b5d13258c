"""Item codes of an adapter that was trained under another popularity prior.

The bilinear head gives a coordinate to each of the k items that the run's own released
popularity ranks first. The same coordinate is another item's in another run, also over the
same sites, whose noise is fresh: a start is moved to the new run's order, or what it knew of
one item would count for another. That is post-processing of two releases and costs no ε.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.adapters import Adapter
from common.config import RunConfig
from common.run_folder import RunFolder

Prior = npt.NDArray[np.float32]
_MIX, _CONTEXT = "head.mix.weight", "head.context.weight"


def recoded_start(config: RunConfig, adapter: Adapter, source: RunFolder, prior: Prior) -> Adapter:
    """The start `adapter` of the run in `source`, its codes in the order of the new `prior`.

    Of another data set no item is known again: what was learnt of its codes is left out.

    Args:
        config: of the new run.
        adapter: as the source left it.
        source: the run that it is of.
        prior: ``[V]`` of the new run.
    """
    model = config.model
    if model.head != "bilinear" or not model.head_items or model.item_side == "lora":
        return adapter
    old: Prior = np.asarray(source.read_checkpoint()[0]["item_prior"], dtype=np.float32)
    there, here = source.read_config().data, config.data
    is_same = (there.dataset, there.folder) == (here.dataset, here.folder)
    known = is_same and len(old) == len(prior)
    return recoded(adapter, _moves(old, prior, model.head_items, known=known), model.head_items)


def recoded(adapter: Adapter, moves: npt.NDArray[np.int64], codes: int) -> Adapter:
    """`adapter` with its codes moved.

    Args:
        adapter: of a bilinear head.
        moves: ``[k]``: for each new code the old one of the same item, or -1.
        codes: k.
    """
    moved = dict(adapter)
    for name in (_MIX, _CONTEXT):
        if name in adapter:
            moved[name] = _rows(adapter[name], moves, codes)
    features = len(moved[_MIX])
    blocks = np.split(moved[_MIX], moved[_MIX].shape[1] // features, axis=1)
    moved[_MIX] = np.concatenate([_rows(b.T, moves, codes).T for b in blocks], axis=1)
    return moved


def _moves(old: Prior, new: Prior, codes: int, *, known: bool) -> npt.NDArray[np.int64]:
    """``[k]``: the old code of each new code's item; -1 where it had none."""
    if not known:
        return np.full(codes, -1)
    place = np.full(len(old), -1)
    before = _ranked(old, codes)
    place[before] = np.arange(len(before))
    moves, after = np.full(codes, -1), _ranked(new, codes)
    moves[: len(after)] = place[after]
    return moves


def _ranked(prior: Prior, codes: int) -> npt.NDArray[np.int64]:
    """The items with codes, as `BilinearHead.set_item_prior` chooses them."""
    return np.argsort(-prior, kind="stable")[:codes]


def _rows(
    weight: npt.NDArray[np.float32], moves: npt.NDArray[np.int64], codes: int
) -> npt.NDArray[np.float32]:
    """`weight` ``[p + k, …]`` with its last k rows moved; zero where there was none."""
    text, coded = weight[:-codes], weight[-codes:]
    found = np.where((moves >= 0)[:, None], coded[moves], np.float32(0))
    return np.ascontiguousarray(np.concatenate([text, found]))
