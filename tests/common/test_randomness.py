from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from common import randomness
from common.randomness import RandomSource, secure_source, seeded_source

# Each statistical test below fails a correct source with this probability.
FALSE_ALARM = 1e-6


@pytest.mark.statistical
def test_uniforms_are_uniform() -> None:
    draws = secure_source().uniform(200_000)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > FALSE_ALARM


@pytest.mark.statistical
def test_normals_are_normal() -> None:
    draws = secure_source().normal(500_000)
    assert stats.kstest(draws, "norm").pvalue > FALSE_ALARM / 3
    # KS hardly looks at the tails: count what lies beyond 3.5 standard deviations.
    beyond = int(np.sum(np.abs(draws) > 3.5))
    assert stats.binomtest(beyond, len(draws), 2 * stats.norm.sf(3.5)).pvalue > FALSE_ALARM / 3
    variance = float(np.sum(draws**2))
    low, high = stats.chi2.ppf([FALSE_ALARM / 6, 1 - FALSE_ALARM / 6], len(draws))
    assert low < variance < high


@pytest.mark.statistical
def test_consecutive_normals_do_not_correlate() -> None:
    draws = secure_source().normal(200_001)
    correlation = np.corrcoef(draws[1:], draws[:-1])[0, 1]
    assert abs(correlation) * np.sqrt(200_000) < stats.norm.isf(FALSE_ALARM / 2)


def test_normals_reach_far_but_stay_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.array([0, 1, 2**64 - 2, 2**64 - 1], dtype=np.uint64)
    monkeypatch.setattr(RandomSource, "_words", lambda self, n: words)
    draws = seeded_source(0).normal(4)
    np.testing.assert_allclose(draws, [9.16, -9.16, 0.0, 0.0], atol=0.02)


@pytest.mark.statistical
@pytest.mark.parametrize("high", [1, 2, 3, 7, 10])
def test_integers_are_uniform(high: int) -> None:
    counts = np.bincount(secure_source().integers(high, 50_000), minlength=high)
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts).pvalue > FALSE_ALARM


def test_integers_reject_what_would_bias_them(monkeypatch: pytest.MonkeyPatch) -> None:
    high = 3 * 2**61  # 2^64 // high = 2: words from 2·high on must be thrown away
    batches = iter([[high - 1, 2 * high - 1, 2 * high, 2**64 - 1], [0, high]])
    monkeypatch.setattr(
        RandomSource, "_words", lambda self, n: np.array(next(batches), dtype=np.uint64)
    )
    assert seeded_source(0).integers(high, 4).tolist() == [high - 1, high - 1, 0, 0]


@pytest.mark.statistical
def test_permutations_are_uniform() -> None:
    source = secure_source()
    orders = [tuple(source.permutation(4)) for _ in range(24_000)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


@given(st.integers(0, 300), st.integers(0, 10))
def test_permutation_holds_each_index_once(n: int, seed: int) -> None:
    assert sorted(seeded_source(seed).permutation(n)) == list(range(n))


def test_seeded_source_repeats() -> None:
    for draw in DRAWS:
        first, second = seeded_source(7, "site-0001", 3), seeded_source(7, "site-0001", 3)
        np.testing.assert_array_equal(draw(first), draw(second))


def test_draws_do_not_depend_on_how_they_are_batched() -> None:
    whole = seeded_source(1).normal(100)
    source = seeded_source(1)
    parts = [source.normal(n) for n in (1, 0, 60, 39)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    "other",
    [
        (2, "site", "noise"),
        (1, "site", "sampling"),
        (1, "sit", "enoise"),
        (1, "sitenoise"),
        (1, "sitestr:noise"),
        (1, "site"),
        (1, "site", "noise", ""),
        (1, "noise", "site"),
    ],
)
def test_other_seed_or_names_give_an_independent_stream(other: tuple[int, str]) -> None:
    first = seeded_source(1, "site", "noise").normal(10_000)
    second = seeded_source(*other).normal(10_000)
    # Seeded, hence the same answer in every run: no false alarm.
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_a_number_and_its_text_are_different_names() -> None:
    assert seeded_source(1, 2).uniform(1) != seeded_source(1, "2").uniform(1)


def test_two_secure_sources_differ() -> None:
    for draw in DRAWS:
        assert not np.array_equal(draw(secure_source()), draw(secure_source()))


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_source_cannot_be_copied(copier: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="cannot be copied"):
        copier(secure_source())


FORK = r"""
import os
from common.randomness import secure_source
source = secure_source()
source.uniform(1)
child = os.fork()
os.write(1, (",".join(map(repr, source.uniform(4).tolist())) + "\n").encode())  # one write
if child:
    os.waitpid(child, 0)
"""


def test_a_forked_child_does_not_repeat_its_parent(repository: Path) -> None:
    # In a process of its own: pytest's may have threads, and forking it is unsafe.
    done = subprocess.run(
        [sys.executable, "-c", FORK], cwd=repository, capture_output=True, text=True, check=True
    )
    of_one, of_other = done.stdout.split()
    assert len(of_one.split(",")) == 4
    assert not set(of_one.split(",")) & set(of_other.split(","))


def test_a_long_stream_takes_a_new_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    long = seeded_source(3).uniform(8)
    monkeypatch.setattr(randomness, "_BYTES_PER_NONCE", 32)
    source = seeded_source(3)
    first, second = source.uniform(4), source.uniform(4)
    np.testing.assert_array_equal(first, long[:4])
    assert not np.intersect1d(second, long).size


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="high"):
        secure_source().integers(0, 1)
    with pytest.raises(ValueError, match="non-negative"):
        secure_source().normal(-1)


DRAWS: list[Callable[[RandomSource], np.ndarray]] = [
    lambda source: source.uniform(50),
    lambda source: source.normal(50),
    lambda source: source.integers(1000, 50),
    lambda source: source.permutation(50),
]
