"""The adapter as one vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from common.flat_adapter import flatten, size, unflatten

NUMBERS = stn.arrays(
    np.float32,
    stn.array_shapes(min_dims=0, max_dims=3, max_side=4),
    elements=st.floats(-9, 9, width=32),
)
TENSORS = st.dictionaries(st.text(min_size=1, max_size=5), NUMBERS, max_size=5)


@given(TENSORS)
def test_tensors_come_back_and_their_order_is_that_of_the_names(
    tensors: dict[str, np.ndarray],
) -> None:
    shapes = {name: array.shape for name, array in tensors.items()}
    vector = flatten(dict(reversed(tensors.items())))
    assert vector.dtype == np.float64
    assert vector.shape == (size(shapes),)
    back = unflatten(vector, shapes)
    assert list(back) == sorted(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(back[name], array)


def test_the_order_is_fixed() -> None:
    vector = flatten({"b": np.array([[1, 2], [3, 4]], np.float32), "a": np.array(5, np.float32)})
    assert vector.tolist() == [5, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [0, 3, 5])
def test_another_number_of_numbers_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="4 numbers are expected"):
        unflatten(np.zeros(count), {"a": (2, 2)})
