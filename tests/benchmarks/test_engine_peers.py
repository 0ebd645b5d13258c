"""The peers train what they say, so that a ratio to them means something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.engine.peer_model import TwoTower
from benchmarks.engine.peer_training import linear_by_example
from benchmarks.engine.time_profile import REST, SectionClock
from benchmarks.engine.workloads import ROWS


class Encoder(nn.Module):
    """Stands where BERT does: a Linear over rows of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 6).requires_grad_(False)
        self.linear = nn.Linear(6, 6, bias=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        return type("Output", (), {"last_hidden_state": self.linear(self.table(input_ids))})()


def test_a_peers_unit_is_the_example_not_the_row() -> None:
    torch.manual_seed(0)
    model = TwoTower(Encoder())
    layer = model.bert.linear
    ids, mask = torch.randint(50, (3, ROWS, 4)), torch.ones(3, ROWS, 4, dtype=torch.long)
    kept: dict[str, torch.Tensor] = {}

    def keep(_module: object, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        output.retain_grad()
        kept.update(inputs=inputs[0], output=output)

    handle = layer.register_forward_hook(keep)
    model(ids, mask)[:, 0].sum().backward()
    handle.remove()
    backprops = kept["output"].grad
    per_example = linear_by_example(layer, [kept["inputs"]], backprops)[layer.weight]
    assert per_example.shape == (3, 6, 6)
    for example in range(3):
        layer.weight.grad = None
        model(ids[[example]], mask[[example]])[:, 0].sum().backward()
        assert torch.allclose(per_example[example], layer.weight.grad, atol=1e-5)


def test_scores_are_dot_products_with_the_mean_of_the_history() -> None:
    torch.manual_seed(1)
    model = TwoTower(Encoder())
    ids, mask = torch.randint(50, (2, ROWS, 4)), torch.ones(2, ROWS, 4, dtype=torch.long)
    mask[:, :, 3] = 0  # the last token is padding
    vectors = model.bert.linear(model.bert.table(ids))[:, :, :3].mean(2)
    expected = (vectors[:, :20].mean(1, keepdim=True) * vectors[:, 20:]).sum(2)
    assert torch.allclose(model(ids, mask), expected, atol=1e-6)


def test_examples_have_twenty_earlier_films_a_positive_and_strangers(tmp_path: Path) -> None:
    from benchmarks.engine.examples import _user_examples
    from common.holdout import ItemSequence, UserSplit

    items = np.arange(30) * 2
    none = ItemSequence(items[:0], np.zeros(0, np.float32), items[:0])
    train = ItemSequence(items, np.ones(30, np.float32), np.arange(30))
    rows = _user_examples(UserSplit("u", train, none, none), 100, np.random.default_rng(0))
    assert rows.shape == (29, ROWS)
    assert rows[-1, :20].tolist() == items[9:29].tolist()
    assert rows[:, 20].tolist() == items[1:].tolist()
    assert not np.isin(rows[:, 21:], items).any()
    assert set(rows[0, :20]) == {0}  # one earlier film, repeated


def test_section_clock_gives_each_section_its_own_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(now)))
    clock = SectionClock()
    inner = clock.wrap("inner", lambda: None)
    outer = clock.wrap("outer", lambda: inner())
    outer()  # before the round: not counted
    clock.round_started(1)
    outer()
    clock.round_finished({"sites": []})
    assert clock.sections == {REST: 2.0, "outer": 2.0, "inner": 1.0}


def test_item_table_keeps_what_it_calls() -> None:
    clock = SectionClock()
    forward = clock.wrap("encoder forward", lambda: None)
    table = clock.wrap("item table", lambda: forward())
    clock.round_started(1)
    table()
    clock.round_finished({"sites": []})
    assert "encoder forward" not in clock.sections
