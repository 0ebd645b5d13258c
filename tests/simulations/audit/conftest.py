"""A run's folder with real, signed ledgers and no training: three sites, two rounds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.durability import Durability
from client.ledger import Ledger
from client.ledger_export import export_file
from client.policy import simulated_policy
from client.release import ReleasePlan, charge_release
from common.adapters import Adapter, adapter_sha256
from common.config import RunConfig
from common.privacy_events import GaussianEvent, SampledGaussianEvent
from common.progress import SilentListener
from common.run_folder import RunFolder
from server.run_records import RunRecords
from server.strategy import FederatedAdapters
from simulations import cli
from simulations.report import build_report
from tests.own_process import Command, in_own_process

SITES, ROUNDS, RUN = 3, 2, "audited-1"
POPULARITY = GaussianEvent(3.0)
UPDATE = SampledGaussianEvent(2.0, 0.2, 1)
PRIVACY = {"mode": "local", "sample_rate": 0.2, "noise_multiplier": 2.0,
           "popularity_noise_multiplier": 3.0}  # fmt: skip


@dataclass
class Changes:
    """What a run does otherwise than its configuration says."""

    privacy: Mapping[str, Any] = field(default_factory=dict)
    charged_privacy: Mapping[str, Any] = field(default_factory=dict)
    update: SampledGaussianEvent | None = UPDATE
    popularity: GaussianEvent | None = POPULARITY
    forgets_hash: bool = False
    seed: int = 0
    steps: int = 1


MakeRun = Callable[..., Path]


def adapter_of_round(seed: int, server_round: int) -> Adapter:
    rng = np.random.default_rng([seed, server_round])
    return {"head.mix.weight": rng.normal(size=(3, 3)).astype(np.float32)}


def site_releases(folder: RunFolder, sites: Path, config: RunConfig, changes: Changes) -> None:
    """Every site's releases, charged to its own ledger, as its agent would."""
    charged = config.model_copy(
        update={"privacy": config.privacy.model_copy(update=dict(changes.charged_privacy))}
    )
    for server_round in range(ROUNDS + 1):
        rows = []
        for number in range(SITES):
            name = f"site-{number:04d}"
            home = sites / name
            home.mkdir(parents=True, exist_ok=True)
            ledger = Ledger(
                home / "ledger.sqlite", unit="user", dataset_fingerprint=f"{number:064x}",
                site=name, durability=Durability.PROCESS,
            )  # fmt: skip
            plan = ReleasePlan(
                RUN, server_round, "update" if server_round else "popularity",
                changes.update if server_round else changes.popularity, 10.0, 1.0,
            )  # fmt: skip
            if plan.event is not None:
                ledger.enforce(plan.event, charged.privacy.target_delta, 1e9)
            update = adapter_of_round(number, server_round)
            _, record = charge_release(
                ledger, plan, update, charged, name, simulated_policy(charged)
            )
            folder.append_release(record.model_dump(mode="json"))
            rows.append({"site": name, "status": "ok", "reason": None, "bytes_up": record.bytes,
                         "epsilon_prv": record.epsilon_prv})  # fmt: skip
        adapter = adapter_of_round(changes.seed, server_round)
        validation = {"users": 9.0, "hr_10": 0.1 + changes.seed, "ndcg_10": 0.1}
        row = {"run": RUN, "server_round": server_round, "seconds": 1.0, "sites": rows,
               "started_at": "2026-01-01T00:00:00.000+00:00", "update_norm": 0.5,
               "validation": validation}  # fmt: skip
        if server_round and not changes.forgets_hash:
            row["adapter_sha256"] = adapter_sha256(adapter)
        folder.append_round(row)


def write_run(parent: Path, changes: Changes) -> Path:
    """Write a finished run into a folder under `parent`."""
    config = RunConfig.model_validate(
        {
            "data": {"sites": SITES},
            "privacy": PRIVACY | dict(changes.privacy),
            "federation": {"rounds": ROUNDS, "local_steps": changes.steps},
        }
    )
    folder, sites = RunFolder.create(parent / "run"), parent / "sites"
    folder.write_config(config)
    site_releases(folder, sites, config, changes)
    for number in range(SITES):
        site = f"site-{number:04d}"
        folder.write_ledger(site, export_file(sites / site / "ledger.sqlite"))
    records = RunRecords(folder, config, RUN)
    adapter = adapter_of_round(changes.seed, ROUNDS)
    records.write_adapter(adapter, ROUNDS)
    strategy = FederatedAdapters(config, RUN, adapter, SilentListener())
    records.write_checkpoint(strategy, ROUNDS)
    build_report(folder.path)
    return folder.path


@pytest.fixture(scope="session")
def written_runs() -> dict[str, Path]:
    """Runs that were written before, by what they do otherwise."""
    return {}


@pytest.fixture
def make_run(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, written_runs: dict[str, Path]
) -> MakeRun:
    """Return a function that writes a finished run's folder and returns its path.

    Equal runs are written once and copied; `anew` writes again (other code, other keys).
    """

    def make(name: str = "audited", *, anew: bool = False, **changes: Any) -> Path:
        done = Changes(**changes)
        if anew or repr(done) not in written_runs:
            written = write_run(tmp_path_factory.mktemp("run"), done)
            if not anew:
                written_runs[repr(done)] = written
        else:
            written = written_runs[repr(done)]
        return Path(shutil.copytree(written, tmp_path / name))

    return make


@pytest.fixture
def fedrec(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run `fedrec …` in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FEDREC_STATE", str(tmp_path / "state"))

    return in_own_process(cli.main, "fedrec", monkeypatch=monkeypatch, capsys=capsys)
