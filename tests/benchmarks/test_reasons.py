"""The arithmetic of docs/reasons.md."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.reason_ways import agreement, best, rollout, to_words
from benchmarks.reasons import OCCLUSION, judged, summary
from client.serving.words import without


def test_tokens_are_summed_over_their_words_and_marks_are_nobodys() -> None:
    text = [(0, 0), (0, 3), (3, 6), (6, 7), (8, 12), (0, 0)]  # [CLS] rob ##ots ! wars [SEP]
    found = to_words([9.0, 1.0, 2.0, 9.0, 4.0, 9.0], text, [(0, 6), (8, 12)])
    assert found.tolist() == [3.0, 4.0]


def test_rollout_of_attention_that_looks_at_one_token_goes_there() -> None:
    to_first = torch.zeros(2, 3, 3)
    to_first[:, :, 0] = 1
    found = rollout([to_first, to_first])
    assert found.sum() == pytest.approx(1)
    assert found.tolist() == pytest.approx([0.75 + 0.25 / 3, 0.25 / 3, 0.25 / 3])


def test_ranks_agree_or_do_not_and_ties_go_to_the_recent() -> None:
    rising = np.arange(5.0)
    assert agreement(rising, rising**3) == pytest.approx(1)
    assert agreement(rising, -rising) == pytest.approx(-1)
    assert agreement(np.ones(5), rising) == 0
    assert best(np.array([2.0, 5.0, 5.0, 1.0]), 2) == [2, 1]
    assert without("a b, c", [(0, 1), (5, 6)]) == "b,"


def test_deletion_takes_out_what_a_way_names_and_signless_ways_are_judged_by_size() -> None:
    effects = np.array([3.0, -4.0, 2.0, 1.0])
    ways = {OCCLUSION: effects, "lag weights": np.array([0.1, 0.6, 0.2, 0.1])}

    def left(places: list[int]) -> float:
        return 10 - float(effects[places].sum())  # things add up here

    found = judged(ways, effects, 10.0, left)
    assert found[OCCLUSION][1:] == (1.0, 3.0, 6.0, 1.0)
    weights = found["lag weights"]
    assert weights.same_first == 1.0  # of size: the second moves the score most
    assert (weights.fall_1, weights.fall_3) == (-4.0, -1.0)
    lines = summary("run", "history", [found, found])
    assert lines[1]["fall_3_less_occlusion"][0] == -7.0
