"""`fedrec-server status`: what a run's folder says, while a server is at work on it and after."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

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
from common.errors import FederationError, RunFolderError
from common.progress import SilentListener
from common.run_folder import RunFolder
from server.cli import main
from server.round_loop import run_rounds
from server.run_lock import is_at_work, only_server
from server.run_records import RunRecords
from server.run_status import current_run, run_status
from server.server_folder import ServerFolder, ServerSettings
from server.strategy import FederatedAdapters
from simulations.engines import run_engine
from simulations.inprocess_grid import InProcessGrid
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.deployment import free_port
from tests.own_process import Command, in_own_process
from tests.scripted_sites import (
    Behaviour,
    crash,
    refusal,
    scripted_app,
    small_adapter,
    small_config,
)


def scripted_run(path: Path, train: Mapping[int, Behaviour], **federation: int) -> None:
    """A run of three sites and two rounds in `path`, as far as it comes."""
    config = small_config(3, **federation)
    strategy = FederatedAdapters(config, path.name, small_adapter(), SilentListener())
    grid = InProcessGrid(scripted_app(train=train), 3, 5, config.to_flat())
    records = RunRecords.start(path, config, path.name)
    run_rounds(grid, strategy, records, SilentListener())


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    """A server's folder without certificates, at whose ports nobody listens."""
    folder = ServerFolder(tmp_path / "server")
    for made in (folder.sites, folder.runs):
        made.mkdir(parents=True)
    folder.write_settings(
        ServerSettings(host="localhost", port=free_port(), superlink_port=free_port())
    )
    (folder.sites / "site-0001.pub").write_text("a key")
    (folder.sites / "south.pub").write_text("a key")
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "100")
    return in_own_process(main, "fedrec-server", monkeypatch=monkeypatch, capsys=capsys)


def test_rounds_refusals_and_errors_are_counted_by_site(tmp_path: Path) -> None:
    path = tmp_path / "run"
    scripted_run(path, {1: refusal(reason="no \x1b[31mmore"), 2: crash}, min_sites=1)
    status = run_status(path)
    assert (status.state, status.server_round, status.rounds) == ("finished", 2, 2)
    assert status.statuses == {"ok": 1, "refused": 1, "error": 1}
    by_name = {line.site: line for line in status.sites}
    good = by_name["site-0000"]
    assert (good.last_ok, good.refusals, good.errors, good.reason) == (2, 0, 0, "")
    assert good.epsilon_spent == 0.5
    assert good.bytes_up == 2 * sum(array.nbytes for array in small_adapter().values())
    no = by_name["site-0001"]
    assert (no.last_ok, no.refusals, no.errors) == (None, 2, 0)
    assert no.reason == "round 2: BudgetRefusal: no \\x1b[31mmore"
    (broken,) = [line for name, line in by_name.items() if name.startswith("node-")]
    assert (broken.refusals, broken.errors) == (0, 2)


def test_a_run_is_running_interrupted_ended_or_finished(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    with pytest.raises(FederationError):
        scripted_run(ended, {1: crash}, min_sites=3)
    found = run_status(ended)
    assert (found.state, found.server_round) == ("ended", 1)
    assert found.fault == "2 of 3 sites gave a usable answer"

    lines = RunFolder.open(ended).read_rounds()
    RunFolder.open(ended).replace_rounds(lines[:-1])  # killed in the middle of the round
    assert run_status(ended).state == "interrupted"
    (ended / "checkpoint" / "checkpoint.safetensors").unlink()  # and before the first one
    assert run_status(ended).state == "interrupted"
    with only_server(ended):
        assert run_status(ended).state == "running"
    assert run_status(ended).state == "interrupted"

    scripted_run(tmp_path / "done", {})
    assert run_status(tmp_path / "done").state == "finished"
    assert current_run(tmp_path) == tmp_path / "done"
    with only_server(ended):
        assert current_run(tmp_path) == ended
    assert current_run(tmp_path / "done") is None


def test_looking_keeps_no_server_out(tmp_path: Path) -> None:
    has_ended = threading.Event()

    def look() -> None:
        while not has_ended.is_set():
            is_at_work(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(20):
            with only_server(tmp_path):
                assert is_at_work(tmp_path)
    finally:
        has_ended.set()
        for looker in lookers:
            looker.join()
    with only_server(tmp_path), pytest.raises(RunFolderError, match="a server is at work"):
        only_server(tmp_path).__enter__()


def test_the_command_shows_sites_keys_and_what_is_down(
    command: Command, server: ServerFolder
) -> None:
    code, out, _ = command("status", "--folder", server.path)
    assert code == 0
    assert "gate DOWN, SuperLink DOWN" in out
    assert "no run was begun yet; sites that may connect: site-0001, south" in out

    scripted_run(server.runs / "week-1", {1: refusal()})
    code, out, _ = command("status", "--folder", server.path)
    assert code == 0
    assert "run week-1: finished" in out
    assert "round 2 of 2; the last one ended 2" in out
    assert "site-0001: round 2: BudgetRefusal: ε would pass the limit" in out

    for asked in ((), ("week-1",), (str(server.runs / "week-1"),)):
        code, out, _ = command("status", *asked, "--folder", server.path, "--json")
        assert code == 0
        told = json.loads(out)
        assert (told["gate"], told["superlink"]) == (False, False)
        sites = {site["site"]: site for site in told["run"]["sites"]}
        assert [sites[name]["listed"] for name in ("site-0000", "site-0001", "south")] == [
            False,
            True,
            True,
        ]
        assert sites["south"]["last_ok"] is None


def test_a_runs_folder_needs_no_server(command: Command, tmp_path: Path) -> None:
    scripted_run(tmp_path / "run", {})
    code, out, _ = command("status", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["gate"] is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--folder", "nowhere"), "no server's folder"),
        (("week-1", "--folder", "server"), "there is no such folder"),
        (("..", "--folder", "server"), "it has no config.toml"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(
    asked: tuple[str, ...],
    said: str,
    command: Command,
    server: ServerFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(server.path.parent)
    code, out, err = command("status", *asked)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_a_damaged_run_is_a_line(command: Command, server: ServerFolder) -> None:
    scripted_run(server.runs / "week-1", {})
    (server.runs / "week-1" / "rounds.jsonl").write_text("{}\nno json\n{}\n")
    code, _, err = command("status", "--folder", server.path)
    assert code == 2
    assert "rounds.jsonl" in err


@pytest.mark.slow
def test_watching_goes_on_until_it_is_stopped(server: ServerFolder) -> None:
    asked = ["status", "--folder", str(server.path), "--watch", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "server.cli", *asked], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["run"] is None
        scripted_run(server.runs / "week-1", {})
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = json.loads(process.stdout.readline())["run"]
            if found is not None:
                break
        assert found["run"] == "week-1"
        process.send_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.parametrize("mode", ["local", "distributed"])
def test_what_is_left_is_what_each_site_declares(mode: str, tmp_path: Path) -> None:
    config = RunConfig(
        data=DataConfig(dataset="synthetic", sites=3, sites_folder=str(tmp_path / "sites")),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
        privacy=PrivacyConfig(mode=mode, targets_per_unit=2, negatives_per_unit=8),  # type: ignore[arg-type]
        federation=FederationConfig(rounds=2, local_lr=0.1),
        evaluation=EvaluationConfig(every=0, metrics="none", companions="", lab=False),
        engine=EngineConfig(threads=1, training="site_by_site"),
    )
    sites = write_site_folders(synthetic_dataset(), config.data, tmp_path / "sites")
    policy = f'max_epsilon = 20.0\nallowed_modes = ["{mode}"]\n'
    # Simulated sites pin no peers.
    (sites[0] / "policy.toml").write_text(policy)
    (sites[1] / "policy.toml").write_text(policy + "declare_epsilon_left = false\n")
    run_engine(config, RunFolder.create(tmp_path / "run"), SilentListener())
    shutil.rmtree(tmp_path / "sites")
    told, silent, own = run_status(tmp_path / "run").sites
    assert told.epsilon_spent is not None
    assert told.epsilon_left == pytest.approx(20.0 - told.epsilon_spent, abs=1e-6)
    assert silent.epsilon_spent == told.epsilon_spent
    assert silent.epsilon_left is None
    assert own.epsilon_left is not None
    assert own.epsilon_left < told.epsilon_left
    last = RunFolder.open(tmp_path / "run").read_releases()[-3:]
    assert ["epsilon_left" in line for line in last] == [True, False, True]
