"""Spoilt inputs are spoilt as they say."""

from __future__ import annotations

import numpy as np

from benchmarks.robust_inputs import with_fakes, with_typos


def test_typos_hit_letters_at_their_rate_and_nothing_else() -> None:
    text = "abcdefghij (1995) " * 200
    spoilt = with_typos(text, 0.2, np.random.default_rng(0))
    assert spoilt == with_typos(text, 0.2, np.random.default_rng(0))
    kept = [word for word in spoilt.split() if word == "abcdefghij"]
    assert 5 < len(kept) < 60  # 0.8 ** 10 of 200 words is 21; a replaced letter may be itself
    assert spoilt.count("(1995)") == 200
    assert with_typos(text, 0.0, np.random.default_rng(0)) == text


def test_fakes_are_the_newest_and_nothing_stands_twice() -> None:
    found = with_fakes([np.array([4, 2, 7]), np.array([1])], [np.array([2, 9]), np.array([3, 5])])
    assert [each.tolist() for each in found] == [[4, 7, 2, 9], [1, 3, 5]]
