from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError
from common.secagg import modular

widths = st.integers(1, 63)


@given(st.data(), widths)
def test_packing_survives_and_is_as_small_as_said(data: st.DataObject, bits: int) -> None:
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=50))
    vector = np.array(values, np.uint64)
    packed = modular.pack(vector, bits)
    assert len(packed) == modular.packed_size(len(values), bits) == -(-len(values) * bits // 8)
    np.testing.assert_array_equal(modular.unpack(packed, len(values), bits), vector)


@given(st.data(), widths)
def test_sums_are_those_of_unbounded_integers(data: st.DataObject, bits: int) -> None:
    half = 2 ** (bits - 1)
    rows = data.draw(st.lists(st.integers(-half, half - 1), min_size=1, max_size=40))
    residues = [modular.from_signed(np.array([v], np.int64), bits) for v in rows]
    total = modular.reduce(np.sum(residues, axis=0, dtype=np.uint64), bits)
    signed = int(modular.to_signed(total, bits)[0])
    assert (signed - sum(rows)) % 2**bits == 0
    assert -half <= signed < half


@given(st.data(), widths)
def test_signs_survive(data: st.DataObject, bits: int) -> None:
    half = 2 ** (bits - 1)
    value = data.draw(st.integers(-half, half - 1))
    residue = modular.from_signed(np.array([value], np.int64), bits)
    assert int(modular.to_signed(residue, bits)[0]) == value


def test_faulty_vectors_are_refused() -> None:
    packed = modular.pack(np.array([1, 2, 3], np.uint64), 5)
    with pytest.raises(MessageError, match="bytes"):
        modular.unpack(packed + b"\0", 3, 5)
    with pytest.raises(MessageError, match="padding"):
        modular.unpack(packed[:-1] + b"\x80", 3, 5)
    with pytest.raises(ValueError, match="bits"):
        modular.reduce(np.array([1], np.uint64), 64)
