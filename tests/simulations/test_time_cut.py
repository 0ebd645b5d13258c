"""The times of a global cut, and the faults of data and settings that have none."""

from __future__ import annotations

import numpy as np
import pytest

from common.config import DataConfig, RunConfig
from common.errors import ConfigError, DataError
from simulations.synthetic import synthetic_dataset
from simulations.time_cut import find_cut, with_time_cut

CUT = RunConfig(data=DataConfig(dataset="synthetic", split="time_cut"))


def test_a_run_gets_the_times_of_its_data_unless_it_has_some() -> None:
    data = synthetic_dataset()
    found = with_time_cut(CUT, data)
    assert found.data.cut == find_cut(data.interactions.timestamp)
    assert with_time_cut(found, None) is found
    assert with_time_cut(RunConfig(), None) == RunConfig()


def test_without_data_the_remedy_is_told() -> None:
    with pytest.raises(ConfigError, match=r"set data\.validation_from and data\.test_from"):
        with_time_cut(CUT, None)


def test_times_that_do_not_part_the_data_are_refused() -> None:
    with pytest.raises(DataError, match="finds no three parts in time"):
        find_cut(np.array([5] * 95 + [6] * 5, dtype=np.int64))
