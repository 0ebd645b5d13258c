"""A real search from the command line, in processes, on synthetic data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations import cli
from simulations.comparison.per_user_file import read_per_user
from simulations.simulate import simulate

REPOSITORY = Path(cli.__file__).resolve().parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]

SCENARIO = """
[data]
dataset = "synthetic"
sites = 2
[model]
head_items = 0
head_dim = 4
lora_layers = 1
lora_rank = 2
item_side = "head"
item_to_item = true
context = "user,time"
context_dim = 2
[privacy]
mode = "none"
targets_per_unit = 2
negatives_per_unit = 4
[federation]
rounds = 1
local_lr = 0.1
[evaluation]
bootstrap_resamples = 100
[engine]
threads = 1
"""
SEARCH = """
scenario = "toy.toml"
[[axis]]
key = "federation.local_lr"
values = [0.01, 0.1]
[[axis]]
key = "model.item_to_item_weight"
values = [0.5]
"""
OUTCOMES = "points/*/seed-?/outcome.json"


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "FLWR_HOME": str(home / "flwr")}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "simulations.cli", "search", *arguments, "--run", "./found"]


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False,
        cwd=home, env=environment(home),
    )  # fmt: skip


def test_a_search_is_stopped_resumed_and_never_looks_at_test(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(SEARCH, encoding="utf-8")
    found = tmp_path / "found"
    with subprocess.Popen(
        command("tiny.toml"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, env=environment(tmp_path),
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 400
        while process.poll() is None and len(list(found.glob("points/*/seed-0/config.toml"))) < 2:
            assert time.monotonic() < deadline, "no second run in time"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, ""), err
    assert "1 of 3 runs are finished in found; go on with fedrec search --resume --run" in err
    kept = {path: path.stat().st_mtime_ns for path in found.glob(OUTCOMES)}

    done = run(tmp_path, "--resume", "--json", "--markdown", "search.md")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["stage"], len(content["points"])) == ("validation", 3)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert "$ fedrec search tiny.toml --seeds 1\n" in (tmp_path / "search.md").read_text()
    check_that_nobody_looked_at_test(found)
    check_the_figures(found, tmp_path / "plain")


def check_that_nobody_looked_at_test(found: Path) -> None:
    folders = [path.parent for path in found.glob(OUTCOMES)]
    assert len(folders) == 3
    assert not list(found.rglob("metrics.json"))
    for folder in folders:
        assert read_per_user(folder).ground.stage == "validation"
        records = RunFolder.open(folder)
        assert all(r["test"] is None and r["validation"] is None for r in records.read_rounds())
        assert "metrics" not in {release["kind"] for release in records.read_releases()}


def check_the_figures(found: Path, plain: Path) -> None:
    """The figure of a point is what an ordinary run's sites sum for the last validation."""
    config = RunFolder.open(found / "points" / "own" / "seed-0").read_config()
    evaluation = config.evaluation.model_copy(update={"metrics": "exact"})
    folder = RunFolder.create(plain)
    ordinary = config.model_copy(update={"evaluation": evaluation})
    folder.write_config(ordinary)
    simulate(ordinary, folder, SilentListener())
    last = folder.read_rounds()[-1]["validation"]
    kept = read_per_user(found / "points" / "own" / "seed-0").rows[0].metrics
    for name, values in kept.items():
        np.testing.assert_allclose(values.mean(), last[name], rtol=1e-6)
    assert last != folder.read_rounds()[-1]["test"]
