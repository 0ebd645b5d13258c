"""The train parts as LensKit's data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from lenskit.data import Dataset, DatasetBuilder

from common.holdout import UserSplit


def lenskit_dataset(splits: Sequence[UserSplit], items: int) -> Dataset:
    """Hand the train interactions to LensKit, without ratings.

    Args:
        splits: one per user; only the train part is read.
        items: V, size of the catalogue; LensKit's item ids are the indices 0 … V-1.

    Returns:
        The data set.
    """
    rows = [
        pd.DataFrame({"user_id": number, "item_id": np.unique(split.train.items)})
        for number, split in enumerate(splits)
    ]
    builder = DatasetBuilder()
    builder.add_entities("item", np.arange(items))
    builder.add_interactions(
        "rating", pd.concat(rows), entities=["user", "item"], missing="insert", default=True
    )
    return builder.build()
