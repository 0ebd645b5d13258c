"""The self-test of the co-occurrence passes, and sees a bound that is none."""

from __future__ import annotations

import numpy as np
import pytest

import common.cooccurrence
from client.self_test_cooccurrence import prove_bound
from common.errors import SelfTestError
from common.randomness import secure_source


@pytest.mark.parametrize("items", [1, 3, 40])
def test_the_bound_holds(items: int) -> None:
    largest = prove_bound(np.arange(items), 50, half_life=20.0, source=secure_source())
    assert 0.999 < largest <= 1 + 1e-9


def test_units_that_are_not_scaled_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.cooccurrence, "_ROUNDING", -0.1)
    with pytest.raises(SelfTestError, match="more than 1; refusing to release"):
        prove_bound(np.arange(9), 50, half_life=20.0, source=secure_source())
