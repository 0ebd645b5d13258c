"""The adapter's study: its plan, its tables, and (slow) one small run of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.adapter_gain.__main__ import BEGIN, END, with_tables
from benchmarks.adapter_gain.measuring import Bench, measure, train
from benchmarks.adapter_gain.plan import ARMS, DATASETS, EPSILONS, Cell, cells
from benchmarks.adapter_gain.tables import markdown, runs, verdict
from common.errors import ConfigError
from simulations.evaluation.intervals import Interval
from simulations.synthetic import synthetic_dataset

WHERE = ("known", "cold", "cold_only")


def figures(level: float, gain: float = 0.0, size: int = 50) -> dict:
    spread = np.linspace(0, 1, size)
    return {
        side: {where: {"ndcg_10": (spread * 0.1 + level + extra).tolist()} for where in WHERE}
        for side, extra in (("start", 0.0), ("run", gain))
    } | {"parameters": 1234, "epsilon": 7.98}


def test_every_cell_has_a_config_of_its_own():
    planned = list(cells(DATASETS, EPSILONS, ARMS, seeds=2))
    assert len({cell.config().sha256() for cell in planned}) == len(planned)
    assert len({cell.name for cell in planned}) == len(planned)
    private = Cell("movielens-100k", 3.0, "both", 1).config(["federation.rounds=7"])
    assert private.is_private
    assert (private.privacy.target_epsilon, private.federation.rounds) == (3.0, 7)
    assert private.model.item_side == "both"
    assert not Cell("movielens-100k", math.inf, "lora", 0).config().is_private


def test_a_row_compares_lora_with_its_start_and_both_with_the_head():
    found = {
        Cell("movielens-100k", 8.0, "lora", 0): figures(0.05, gain=0.02),
        Cell("movielens-100k", 8.0, "head", 0): figures(0.10),
        Cell("movielens-100k", 8.0, "both", 0): figures(0.09),
    }
    lines = markdown(found).splitlines()[2:]
    assert len(lines) == 6
    alone, beside = lines[0], lines[1]
    assert "LoRA alone" in alone
    assert "0.1000 | 0.1200 | +0.0200 [+0.0200, +0.0200] | adds" in alone
    assert "0.1500 | 0.1400 | -0.0100" in beside


def test_one_side_alone_is_no_row_and_the_largest_epsilon_is_first():
    found = {
        Cell("movielens-100k", 1.0, "lora", 0): figures(0.05),
        Cell("movielens-100k", math.inf, "lora", 0): figures(0.05),
        Cell("movielens-100k", 1.0, "head", 0): figures(0.05),
    }
    lines = markdown(found).splitlines()[2:]
    assert [line.split(" | ")[2] for line in lines] == ["∞"] * 3 + ["1"] * 3
    assert not any("head and LoRA" in line for line in lines)
    assert "| movielens-100k | head | 1 | 1,234 | 7.98 | 1 |" in runs(found)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.01, "adds"),
        (-0.01, -0.001, "costs"),
        (-0.01, 0.01, "not distinguishable"),
        (math.nan, math.nan, "not distinguishable"),
    ],
)
def test_a_verdict_says_no_more_than_the_interval(low, high, said):
    assert verdict(Interval((low + high) / 2, low, high)) == said


def test_tables_stand_between_the_marks():
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_tables(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ConfigError, match="once each"):
        with_tables("no marks", "new")


@pytest.mark.slow
def test_a_small_run_is_measured_once(tmp_path, monkeypatch):
    cell = Cell("movielens-100k", math.inf, "lora", 0)
    small = ["data.dataset=synthetic", "data.sites=2", "federation.rounds=1"]
    config = cell.config([*small, "federation.local_steps=2", "engine.threads=1"])
    bench = Bench(synthetic_dataset(), config, 0.1)
    train(bench, config, tmp_path / "run")
    found = measure(bench, tmp_path / "run", "validation")
    assert found["config_sha256"] == config.sha256()
    assert len(found["run"]["known"]["ndcg_10"]) == len(bench.splits)
    assert len(found["run"]["cold"]["ndcg_10"]) == len(found["run"]["cold_only"]["ndcg_10"])
    assert np.mean(found["run"]["cold_only"]["hr_10"]) == 1.0  # 8 cold items, all among 10
    assert np.mean(found["run"]["cold"]["hr_10"]) < 1.0
    assert found["run"] != found["start"]
    monkeypatch.setattr("benchmarks.adapter_gain.measuring.run_engine", None)
    train(bench, config, tmp_path / "run")
    assert measure(bench, tmp_path / "run", "validation") == found
