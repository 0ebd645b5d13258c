"""The prior is standardised, and negative noisy counts do no harm."""

from __future__ import annotations

import numpy as np

from common.item_prior import item_prior_from_counts


def test_prior_is_standardised_and_monotone() -> None:
    prior = item_prior_from_counts(np.array([0.0, 1.0, 10.0, 100.0]))
    assert prior.dtype == np.float32
    assert abs(float(prior.mean())) < 1e-6
    assert abs(float(prior.std()) - 1.0) < 1e-6
    assert (np.diff(prior) > 0).all()


def test_negative_counts_count_as_zero() -> None:
    prior = item_prior_from_counts(np.array([-5.0, 0.0, 3.0]))
    assert prior[0] == prior[1] < prior[2]


def test_constant_or_broken_counts_give_no_prior() -> None:
    assert not item_prior_from_counts(np.full(4, 2.0)).any()
    assert not item_prior_from_counts(np.array([1.0, np.nan, 2.0])).any()
