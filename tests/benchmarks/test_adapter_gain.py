"""The adapter's study: its plan, its tables, and (slow) one small run of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.adapter_gain import __main__ as study
from benchmarks.adapter_gain import search
from benchmarks.adapter_gain.measuring import Bench, measure, train
from benchmarks.adapter_gain.page import END, begin_mark, with_text
from benchmarks.adapter_gain.plan import ARMS, CHOSEN, DATASETS, EPSILONS, Cell, cells
from benchmarks.adapter_gain.points import PLAIN, PRIVATE
from benchmarks.adapter_gain.running import Runner
from benchmarks.adapter_gain.tables import markdown, runs, verdict
from benchmarks.adapter_gain.trials import Trial, trials
from common.errors import ConfigError
from common.run_folder import RunFolder
from simulations.evaluation.intervals import Interval
from simulations.synthetic import synthetic_dataset

WHERE = ("known", "cold", "cold_only")


def figures(level: float, gain: float | np.ndarray = 0.0, size: int = 50) -> dict:
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


def test_each_command_writes_between_its_own_marks():
    own, other = (begin_mark(command) for command in (study.COMMAND, search.COMMAND))
    page = f"before\n{own}\nold\n{END}\nafter\n{other}\nkept\n{END}\n"
    written = f"before\n{own}\nnew\n{END}\nafter\n{other}\nkept\n{END}\n"
    assert with_text(page, study.COMMAND, "new") == written
    assert with_text(written, search.COMMAND, "kept") == written
    for wrong in ("no marks", f"{own}\nno end", page.replace("kept", own)):
        with pytest.raises(ConfigError, match="once"):
            with_text(wrong, study.COMMAND, "new")


def test_every_point_of_the_search_is_another_run():
    planned = list(trials(DATASETS, search.EPSILONS))
    hashes = {trial.config().sha256() for trial in planned}
    assert len(hashes) == len({trial.name for trial in planned}) == len(planned)


def test_the_study_runs_what_was_chosen_and_the_search_does_not_move_with_it(monkeypatch):
    cell = Cell("movielens-100k", math.inf, "lora", 0)
    tried = {trial.point: trial.config() for trial in trials([cell.dataset], [math.inf])}
    for point, config in tried.items():
        monkeypatch.setitem(CHOSEN, (cell.dataset, cell.epsilon), point)
        assert cell.config() == config
        assert {t.point: t.config() for t in trials([cell.dataset], [math.inf])} == tried
    head = Cell("movielens-100k", math.inf, "head", 0)
    assert head.config() == head.config(point="first")
    for (_, epsilon), point in CHOSEN.items():
        assert point in (PLAIN if math.isinf(epsilon) else PRIVATE)


def test_the_search_marks_the_largest_gain_of_each_data_set_and_budget():
    tried = list(trials(DATASETS[:1], [math.inf]))[:2]
    plain, private = Cell(DATASETS[0], math.inf, "lora", 0), Cell(DATASETS[0], 8.0, "lora", 0)
    assert [trial.cell for trial in tried] == [plain, plain]
    noise = np.random.default_rng(0).normal(0, 0.01, 50)
    better, worse = figures(0.1, gain=noise + 0.02), figures(0.1, gain=noise)
    alone = {Trial(private, "first"): worse}
    lines = search.markdown({tried[0]: worse, tried[1]: better} | alone).splitlines()[2:]
    assert [f"**{trial.point}**" in line for trial, line in zip(tried, lines[:2], strict=True)] == [
        False,
        True,
    ]
    assert "**" not in lines[2]  # the only one of its kind was not chosen among any
    assert "| 8 | first: the first settings | 1,234 |" in lines[2]
    assert search.gain(search.differences(figures(0.1))) == 0.0


def test_a_folder_of_other_settings_is_refused_and_nothing_is_run_unasked(tmp_path):
    cell, runner = Cell("movielens-100k", 8.0, "lora", 0), Runner("validation", no_runs=True)
    assert runner.figures(cell, cell.config(), tmp_path / "none") is None
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config(cell.config())
    folder.write_json("gain-validation.json", {"kept": 1})
    found = runner.figures(cell, cell.config(), tmp_path / "run")
    assert found is not None
    assert found["kept"] == 1
    with pytest.raises(ConfigError, match="other settings"):
        runner.figures(cell, cell.config(["federation.rounds=7"]), tmp_path / "run")


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
