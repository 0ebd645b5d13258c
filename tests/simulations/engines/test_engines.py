"""Both engines, with the real ServerApp, ClientApp, agent and BERT, on synthetic data."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest

from common.config import (
    DataConfig,
    EngineConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.errors import FederationError
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.engines import run_engine
from simulations.partition import write_site_folders

SITES, ROUNDS = 3, 2
# Opacus 1.6 and PEFT 0.21 on transformers 5 and torch 2.13 say these in every run.
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]


class Journal(SilentListener):
    def __init__(self) -> None:
        self.rounds: list[int] = []

    def round_finished(self, record: Any) -> None:
        self.rounds.append(record["server_round"])


def seeded_config(
    kind: Literal["inprocess", "flower"], sites_folder: Path, mode: str = "local", **privacy: Any
) -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=SITES, sites_folder=str(sites_folder)),
        model=ModelConfig(lora_layers=1, lora_rank=4, head_dim=16, head_items=0),
        privacy=PrivacyConfig(
            mode=mode,
            insecure_seeded_noise=True,
            targets_per_unit=2,
            negatives_per_unit=8,
            **privacy,
        ),
        federation=FederationConfig(rounds=ROUNDS, min_sites=SITES, round_deadline_s=300.0),
        evaluation=EvaluationConfig(every=0),
        # Flower's runtime trains site by site; only the same training gives the same bits.
        engine=EngineConfig(kind=kind, threads=1, training="site_by_site"),
    )


def engine_processes() -> list[str]:
    """Command lines of whatever of Flower or Ray runs on this machine below this test."""
    names = ("flower-superlink", "flower-superexec", "flwr-simulation", "raylet", "gcs_server")
    lines = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if any(name in line for name in names):
            lines.append(line)
    return lines


def homes() -> set[str]:
    """What Flower's engine makes; other tests have folders of other names at the same time."""
    found = Path(tempfile.gettempdir()).glob("fedrec-*")
    return {
        path.name for path in found if re.fullmatch(r"fedrec-(\w{8}|flower-.+\.log)", path.name)
    }


Run = Callable[[Literal["inprocess", "flower"]], tuple[RunFolder, Journal]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs an engine once on sites of its own and hands out what it left."""
    done: dict[str, tuple[RunFolder, Journal]] = {}

    def run_once(kind: Literal["inprocess", "flower"]) -> tuple[RunFolder, Journal]:
        if kind not in done:
            folder = tmp_path_factory.mktemp(kind)
            config = seeded_config(kind, folder / "sites")
            write_site_folders(load_dataset(config.data), config.data, folder / "sites")
            records, journal = RunFolder.create(folder / "run"), Journal()
            run_engine(config, records, journal)
            done[kind] = records, journal
        return done[kind]

    return run_once


def test_both_engines_give_the_same_adapter(run: Run) -> None:
    left, _ = run("inprocess")[0].read_adapter()
    right, _ = run("flower")[0].read_adapter()
    assert sorted(left) == sorted(right)
    for name, array in left.items():
        np.testing.assert_allclose(right[name], array, rtol=0, atol=1e-6)
    moved = [name for name, array in left.items() if np.abs(array).max() > 0]
    assert any(name.startswith("lora.") for name in moved)
    assert any(name.startswith("head.") for name in moved)


def test_stacked_training_gives_the_adapter_of_flowers_runtime(run: Run, tmp_path: Path) -> None:
    config = seeded_config("inprocess", tmp_path / "sites")
    stacked = config.engine.model_copy(update={"training": "stacked"})
    write_site_folders(load_dataset(config.data), config.data, tmp_path / "sites")
    records = RunFolder.create(tmp_path / "run")
    run_engine(config.model_copy(update={"engine": stacked}), records, Journal())
    expected = run("flower")[0].read_adapter()[0]
    got = records.read_adapter()[0]
    assert sorted(got) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=0, atol=1e-6)


def test_both_engines_leave_the_same_records(run: Run) -> None:
    left, right = run("inprocess")[0], run("flower")[0]
    for records in (left, right):
        rounds = records.read_rounds()
        assert [r["server_round"] for r in rounds] == [0, 1, 2]
        assert all(site["status"] == "ok" for r in rounds for site in r["sites"])
    for mine, theirs in zip(left.read_releases(), right.read_releases(), strict=True):
        # The run's name, and the checkpoint's keys and time, are each run's own.
        own = {"run", "ledger_checkpoint"}
        assert mine.keys() == theirs.keys()
        assert {k: v for k, v in mine.items() if k not in own} == {
            k: v for k, v in theirs.items() if k not in own
        }
    assert left.read_rounds()[-1]["test"] == right.read_rounds()[-1]["test"]


def test_both_engines_tell_of_every_round(run: Run) -> None:
    assert run("inprocess")[1].rounds == [1, 2]
    assert run("flower")[1].rounds == [1, 2]


@pytest.fixture(scope="module")
def summed_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[RunFolder, Path]]:
    """The same secure sums on both engines: the records, and the sites that were summed."""
    done = {}
    for kind in ("inprocess", "flower"):
        folder = tmp_path_factory.mktemp(f"summed-{kind}")
        config = seeded_config(kind, folder / "sites", mode="distributed", max_dropouts=0)
        write_site_folders(load_dataset(config.data), config.data, folder / "sites")
        records = RunFolder.create(folder / "run")
        run_engine(config, records, SilentListener())
        done[kind] = records, folder / "sites"
    return done


def test_secure_sums_give_both_engines_the_same_adapter_bit_for_bit(
    summed_runs: dict[str, tuple[RunFolder, Path]],
) -> None:
    # On Flower's runtime each stage may reach another process: what a site knows of the
    # round it reads from its own store.
    (left, _), (right, _) = (records.read_adapter() for records, _ in summed_runs.values())
    assert sorted(left) == sorted(right)
    for name, array in left.items():
        np.testing.assert_array_equal(right[name], array)
    moved = [name for name, array in left.items() if np.abs(array).max() > 0]
    assert any(name.startswith("lora.") for name in moved)
    assert any(name.startswith("head.") for name in moved)


def test_secure_sums_leave_the_same_records_and_whole_ledgers(
    summed_runs: dict[str, tuple[RunFolder, Path]],
) -> None:
    lines = []
    for records, sites in summed_runs.values():
        rounds = records.read_rounds()
        assert [r["server_round"] for r in rounds] == [0, 1, 2]
        assert all(site["status"] == "ok" for r in rounds for site in r["sites"])
        charged = [line for line in records.read_releases() if line["kind"] != "metrics"]
        assert {line["mechanism"] for line in charged} == {"discrete_gaussian"}
        # Masked bytes, and what names them, are each run's own: keys are never seeded.
        own = {"run", "ledger_checkpoint", "payload_sha256"}
        lines.append([{k: v for k, v in line.items() if k not in own} for line in charged])
        stores = sorted(sites.glob("site-*/secagg/rounds.json"))
        assert len(stores) == SITES
        assert all(path.stat().st_mode & 0o077 == 0 for path in stores)
    assert lines[0] == lines[1]


def test_flower_leaves_nothing_running_and_no_files(run: Run) -> None:
    before = homes()
    run("flower")
    assert engine_processes() == []
    assert homes() <= before


@pytest.mark.parametrize("kind", ["inprocess", "flower"])
def test_a_run_that_cannot_go_on_is_one_clear_line(
    kind: Literal["inprocess", "flower"], tmp_path: Path
) -> None:
    config = seeded_config(kind, tmp_path / "no-such-folder")
    records = RunFolder.create(tmp_path / "run")
    with pytest.raises(FederationError, match="0 of 3 sites gave") as fault:
        run_engine(config, records, SilentListener())
    assert "\n" not in str(fault.value)
    assert "Traceback" not in str(fault.value)
    assert fault.value.exit_code == 2
    (record,) = records.read_rounds()
    assert {site["status"] for site in record["sites"]} == {"error"}
    assert engine_processes() == []


def remote_addresses(process: psutil.Process) -> set[str]:
    """Where a process and everything below it are connected to at this moment."""
    found = set()
    for each in [process, *process.children(recursive=True)]:
        try:
            found |= {c.raddr.ip for c in each.net_connections("inet") if c.raddr}
        except psutil.Error:  # it ended meanwhile
            continue
    return {address.removeprefix("::ffff:") for address in found}


INTERRUPTED = """
import sys
from pathlib import Path
from common.config import RunConfig
from common.config_loading import load_config
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.engines import run_engine
folder = RunFolder(Path(sys.argv[1]))
try:
    run_engine(folder.read_config(), folder, SilentListener())
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupted_flower_run_ends_all_and_reached_only_this_machine(tmp_path: Path) -> None:
    config = seeded_config("flower", tmp_path / "sites")
    config = config.model_copy(
        update={"federation": config.federation.model_copy(update={"rounds": 10_000})}
    )
    write_site_folders(load_dataset(config.data), config.data, tmp_path / "sites")
    records = RunFolder.create(tmp_path / "run")
    records.write_config(config)
    before = homes()
    child = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(records.path)])
    try:
        end = time.monotonic() + 300
        remotes: set[str] = set()
        while len(records.read_rounds()) < 2 and child.poll() is None and time.monotonic() < end:
            remotes |= remote_addresses(psutil.Process(child.pid))
            time.sleep(0.2)
        assert child.poll() is None
        started = psutil.Process(child.pid).children(recursive=True)
        assert any("flower-superlink" in " ".join(p.cmdline()) for p in started)
        assert homes() > before
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 130
    finally:
        child.kill()
        child.wait()
    psutil.wait_procs(started, timeout=10)
    assert [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert homes() <= before
    assert records.read_rounds()[-1]["server_round"] >= 1
    own = {a.address for addresses in psutil.net_if_addrs().values() for a in addresses}
    assert remotes  # the processes do talk to each other
    assert remotes <= own  # and to nobody off this machine
