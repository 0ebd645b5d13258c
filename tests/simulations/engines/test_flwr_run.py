"""``flwr run .`` on this very repository, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.config import DataConfig
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.partition import write_site_folders

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# No process can shed its environment, so this one finds all that a run began.
OF_THIS_TEST = "FEDREC_TEST_OF_FLWR_RUN"

SMALL = (
    "data.dataset='synthetic' data.sites=3 privacy.max_dropouts=0 model.head_items=8 "
    "model.lora_layers=1 model.head='bilinear' "
    "model.head_dim=4 model.lora_rows=2 privacy.targets_per_unit=2 "
    "privacy.negatives_per_unit=4 federation.rounds=2 evaluation.every=0"
)


def run_it(repository: Path, runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simulations.engines.flwr_run", *arguments],
        cwd=repository,
        env={**os.environ, "FEDREC_RUNS": str(runs), OF_THIS_TEST: str(runs)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def leftovers(runs: Path) -> list[str]:
    """Processes that `run_it` began and left behind; other tests' engines run beside it."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{OF_THIS_TEST}={runs}".encode() in environment.read_bytes().split(b"\0"):
                found.append(environment.parent.name)
        except OSError:  # ended meanwhile
            continue
    return found


def test_flwr_run_trains_the_federation_and_leaves_nothing(
    repository: Path, tmp_path: Path
) -> None:
    data = DataConfig(dataset="synthetic", sites=3)
    write_site_folders(load_dataset(data), data, tmp_path / "sites")
    done = run_it(
        repository,
        tmp_path / "runs",
        "--run-config",
        f"{SMALL} data.sites_folder='{tmp_path / 'sites'}'",
        "--federation-config",
        "num-supernodes=3 client-resources-num-cpus=1",
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    (path,) = (tmp_path / "runs").iterdir()
    rounds = RunFolder.open(path).read_rounds()
    assert [r["server_round"] for r in rounds] == [0, 1, 2]
    assert all(site["status"] == "ok" for r in rounds for site in r["sites"])
    assert leftovers(tmp_path / "runs") == []


def test_an_unknown_key_is_refused_by_flower_and_nothing_is_left(
    repository: Path, tmp_path: Path
) -> None:
    done = run_it(repository, tmp_path / "runs", "--run-config", "privacy.epsilon=1")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert leftovers(tmp_path / "runs") == []
