"""What a finished run scores with beside its adapter: statistics of items, from its records."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.item_to_item import NO_WEIGHTS
from common.run_folder import RunFolder


class RunStatistics(NamedTuple):
    """As the run's sites received them.

    Attributes:
        item_prior: ``[V]`` float32, or ``[0]`` where the run has none.
        weights: the triangle of `common.item_to_item`, or ``[0]``.
    """

    item_prior: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


def run_statistics(folder: RunFolder) -> RunStatistics:
    """Read them from the run's folder.

    Raises:
        RunFolderError: a file is missing, damaged or of another version.
    """
    tensors, _ = folder.read_checkpoint()
    prior = np.asarray(tensors["item_prior"], dtype=np.float32)
    return RunStatistics(prior, folder.read_item_to_item().get("weights", NO_WEIGHTS))
