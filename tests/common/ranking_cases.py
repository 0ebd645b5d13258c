"""Scores, targets and histories to be ranked, with ties, NaN and infinities."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def ranking_cases(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    users, items = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    value = st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, float("nan"), float("-inf")])
    scores = np.array(
        draw(
            st.lists(
                st.lists(value, min_size=items, max_size=items), min_size=users, max_size=users
            )
        ),
        dtype=np.float32,
    )
    targets, seen = [], []
    for _ in range(users):
        order = draw(st.permutations(range(items)))
        cut = draw(st.integers(0, items))
        end = draw(st.integers(cut, items))
        targets.append(np.array(order[:cut], dtype=np.int64))
        seen.append(np.array(order[cut:end], dtype=np.int64))
    return scores, targets, seen
