"""The self-test of a site's part: it passes on ours and fails on wrong shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from client import self_test_sums
from client.self_test_sums import check_share
from common.discrete_noise import masked_sum_input
from common.errors import SelfTestError
from common.randomness import RandomSource, secure_source
from common.secagg.modular import Residues, from_signed, to_signed
from common.secagg.quantisation import QuantisationPlan

PLAN = QuantisationPlan(10, 8, 500, 0.1, 2.0, 1000, 5)


def test_our_share_passes() -> None:
    assert check_share(PLAN, secure_source()) == pytest.approx(1.0, abs=0.1)


def scaled(by: float) -> Callable[..., Residues]:
    def part(
        values: npt.NDArray[np.float64], plan: QuantisationPlan, source: RandomSource
    ) -> Residues:
        drawn = to_signed(masked_sum_input(values, plan, source), plan.modulus_bits)
        return from_signed((drawn * by).astype(np.int64), plan.modulus_bits)

    return part


@pytest.mark.parametrize("by", [0.8, 1.25])
def test_a_share_of_another_size_is_found(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    monkeypatch.setattr(self_test_sums, "masked_sum_input", scaled(by))
    with pytest.raises(SelfTestError, match="of its declared standard deviation"):
        check_share(PLAN, secure_source())


def test_a_share_that_repeats_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = masked_sum_input(np.zeros(PLAN.coordinates), PLAN, secure_source())
    monkeypatch.setattr(self_test_sums, "masked_sum_input", lambda *_: fixed)
    with pytest.raises(SelfTestError, match="correlates|declared standard deviation"):
        check_share(PLAN, secure_source())


def test_a_coarse_grid_is_found() -> None:
    coarse = QuantisationPlan(10, 8, 500, 0.1, 2.0, 1000, 5, grid_bits=4)
    with pytest.raises(SelfTestError, match="rounding to the grid"):
        check_share(coarse, secure_source())
