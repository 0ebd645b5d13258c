"""The two times of a global time cut, from pooled data: for the lab only.

In a deployment they are dates that all sites agree on; here they are chosen so that about a
tenth of the interactions validates and a tenth is test.
"""

from __future__ import annotations

import numpy as np

from common.config import RunConfig
from common.errors import ConfigError, DataError
from common.holdout import TimeCut
from common.interactions import Dataset, Int64Array
from simulations.companions import companion_config

TRAIN_SHARE, VALIDATION_SHARE = 0.8, 0.1


def find_cut(timestamps: Int64Array) -> TimeCut:
    """Find the times before which 80% and 90% of the interactions lie.

    Args:
        timestamps: int64[N], unix seconds.

    Returns:
        From when on interactions validate, and from when on they test.

    Raises:
        DataError: so many interactions share a time that one of the three parts is empty.
    """
    ordered = np.sort(timestamps)
    first, then = (
        int(ordered[int(len(ordered) * share)])
        for share in (TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE)
    )
    if not ordered[0] < first < then or first <= 0:
        raise DataError(
            f"data.split=time_cut finds no three parts in time: 80% of the interactions lie before "
            f"{first} and 90% before {then}; use data.split=leave_one_out"
        )
    return first, then


def with_time_cut(config: RunConfig, dataset: Dataset | None) -> RunConfig:
    """Return `config` with the times of its split, if it needs some and states none.

    Args:
        config: of the run.
        dataset: the pooled data, if they are loaded.

    Raises:
        ConfigError: they are not loaded.
        DataError: as `find_cut`.
    """
    if config.data.split != "time_cut" or config.data.cut is not None:
        return config
    if dataset is None:
        fault = (
            "data.split=time_cut with evaluation.lab=false has no times, because the data are not "
            "loaded at once; set data.validation_from and data.test_from (unix seconds)"
        )
        raise ConfigError([fault])
    first, then = find_cut(dataset.interactions.timestamp)
    return companion_config(config, {"data.validation_from": first, "data.test_from": then})
