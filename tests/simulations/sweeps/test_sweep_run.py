"""Real sweeps from the command line, in processes, on synthetic data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulations import cli

REPOSITORY = Path(cli.__file__).resolve().parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]

SCENARIO = """
[data]
dataset = "synthetic"
split = "last_fifth"
sites = 2
[privacy]
mode = "local"
targets_per_unit = 2
negatives_per_unit = 4
popularity_noise_multiplier = 8.0
[model]
head_items = 0
[federation]
rounds = 1
[evaluation]
every = 0
companions = ""
bootstrap_resamples = 100
[engine]
threads = 1
[[budget]]
no_privacy = true
federation.local_lr = 0.01
"""
SWEEP = ("--sweep", "privacy.target_epsilon=3,inf", "--seeds", "2")


def command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "simulations.cli", *arguments, "--run", str(home / "sweep")]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "FLWR_HOME": str(home / "flwr")}


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(home, *arguments), capture_output=True, text=True, check=False,
        cwd=home, env=environment(home),
    )  # fmt: skip


def begun(home: Path) -> list[Path]:
    return sorted((home / "sweep" / "points").glob("*/seed-*/config.toml"))


def finished(home: Path) -> list[Path]:
    return sorted((home / "sweep" / "points").glob("*/seed-?/outcome.json"))


def wait_until_the_second_run_has_begun(process: subprocess.Popen[str], home: Path) -> None:
    deadline = time.monotonic() + 400
    while process.poll() is None and len(begun(home)) < 2:
        assert time.monotonic() < deadline, "no second run in time"
        time.sleep(0.05)


def test_a_sweep_is_stopped_killed_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(SCENARIO, encoding="utf-8")
    asked = ("simulate", "toy.toml", *SWEEP)
    with subprocess.Popen(
        command(tmp_path, *asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, env=environment(tmp_path),
    ) as process:  # fmt: skip
        wait_until_the_second_run_has_begun(process, tmp_path)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, ""), err
    assert "stopped; 1 of 4 runs are finished" in err
    assert "Traceback" not in err
    kept = {path: path.stat().st_mtime_ns for path in finished(tmp_path)}
    assert len(kept) == 1

    refused = run(tmp_path, "simulate", "toy.toml", "--sweep", "privacy.target_epsilon=4")
    assert refused.returncode == 2
    assert "holds another sweep" in refused.stderr

    with subprocess.Popen(
        command(tmp_path, "simulate", "--resume"), stderr=subprocess.DEVNULL,
        cwd=tmp_path, env=environment(tmp_path),
    ) as killed:  # fmt: skip
        deadline = time.monotonic() + 400
        while killed.poll() is None and len(list(tmp_path.rglob("seed-1.aside-1"))) < 1:
            assert time.monotonic() < deadline, "nothing was taken up in time"
            time.sleep(0.05)
        killed.kill()

    done = run(tmp_path, "simulate", "--resume", "--json", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [point["result"]["seeds"] for point in found["points"]] == [2, 2]
    assert [point["mode"] for point in found["points"]] == ["local", "none"]
    assert found["points"][0]["epsilon"] <= 3
    assert found["points"][0]["result"]["floors"]
    assert found["points"][1]["differs"] == {"federation.local_lr": 0.01}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {record["attribute"] for record in found["impact"]} >= {"gender"}
    assert {record["epsilon"] for record in found["impact"]} == {3.0}
    for report in (tmp_path / "sweep").glob("points/*/seed-?/report.json"):
        beside = json.loads(report.read_text(encoding="utf-8"))["utility_by_epsilon"]
        assert beside["is_sweep"], report  # drawn again, once the other budgets were there
    assert "Who pays for privacy" in Path(found["report"]).read_text(encoding="utf-8")

    again = run(tmp_path, *asked)
    assert again.returncode == 0, again.stderr
    assert "ε=3" in again.stdout
    assert len(list(tmp_path.rglob("*.aside-*"))) == 2
    compared = subprocess.run(
        [sys.executable, "-m", "simulations.cli", "compare", str(tmp_path / "sweep"), "--json"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment(tmp_path),
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    (difference,) = json.loads(compared.stdout)["differences"]
    assert difference["seeds"] == 2


def test_a_failed_point_is_a_line_and_stops_no_other(tmp_path: Path) -> None:
    tight = SCENARIO.replace("popularity_noise_multiplier = 8.0", "")
    (tmp_path / "toy.toml").write_text(tight, encoding="utf-8")
    done = run(tmp_path, "simulate", "toy.toml", "--sweep", "privacy.target_epsilon=1,inf")
    assert done.returncode == 2, done.stderr
    assert "privacy.target_epsilon=1 seed 0 failed: " in done.stdout
    assert "BudgetRefusal" in done.stdout
    assert "ε=inf" in done.stdout
    assert "Traceback" not in done.stderr
    assert len(finished(tmp_path)) == 1
