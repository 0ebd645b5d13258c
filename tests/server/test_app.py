from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

import server.app
import server.runs_folder
from common.config import RunConfig
from common.errors import ConfigError, FederationError, RunFolderError
from common.progress import SilentListener
from common.run_folder import RunFolder
from server.app import build_server_app, chosen_run_folder, unique_run_name
from server.log_listener import LogListener
from simulations.inprocess_grid import InProcessGrid
from tests.scripted_sites import crash, scripted_app, small_adapter, small_config


@pytest.fixture(autouse=True)
def _small_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted sites' adapter instead of BERT's."""
    monkeypatch.setattr(server.app, "starting_adapter", lambda config: small_adapter())


def context_of(config: RunConfig, **changes: Any) -> Context:
    return Context(
        run_id=5,
        node_id=1,
        node_config={},
        state=RecordDict(),
        run_config=config.to_flat() | changes,
    )


def grid_of(config: RunConfig, nodes: int = 3, **script: Any) -> InProcessGrid:
    return InProcessGrid(scripted_app(**script), nodes, 5, config.to_flat())


def test_the_app_runs_the_federation_into_the_given_folder(tmp_path: Path) -> None:
    config = small_config(3)
    app = build_server_app(run_folder=tmp_path / "demo", listener=SilentListener())
    app(grid_of(config), context_of(config))
    folder = RunFolder.open(tmp_path / "demo")
    assert folder.read_config() == config
    assert [r["run"] for r in folder.read_rounds()] == ["demo-5", "demo-5"]
    assert {r["run"] for r in folder.read_releases()} == {"demo-5"}


def test_a_config_that_is_there_already_stays(tmp_path: Path) -> None:
    config = small_config(3)
    RunFolder.create(tmp_path / "demo").write_config(config)
    sited = config.model_copy(
        update={"data": config.data.model_copy(update={"sites_folder": "elsewhere"})}
    )
    app = build_server_app(run_folder=tmp_path / "demo", listener=SilentListener())
    app(grid_of(sited), context_of(sited))
    assert RunFolder.open(tmp_path / "demo").read_config() == config


def test_a_wrong_run_config_starts_nothing(tmp_path: Path) -> None:
    config = small_config(3)
    app = build_server_app(run_folder=tmp_path / "demo", listener=SilentListener())
    context = context_of(config, **{"data.sitess": 3, "privacy.target_epsilon": -1.0})
    with pytest.raises(ConfigError) as fault:
        app(grid_of(config), context)
    assert len(fault.value.faults) == 2
    assert not (tmp_path / "demo").exists()


def test_missing_sites_start_nothing(tmp_path: Path) -> None:
    config = small_config(3)
    app = build_server_app(
        run_folder=tmp_path / "demo", listener=SilentListener(), sites_deadline_s=0.05
    )
    with pytest.raises(FederationError, match="1 of data.sites=3 sites appeared"):
        app(grid_of(config, nodes=1), context_of(config))
    assert not (tmp_path / "demo").exists()


def test_enough_sites_start_the_run_and_the_last_one_may_come_late(tmp_path: Path) -> None:
    config = small_config(3)

    class Late(InProcessGrid):
        looks = 0

        def get_node_ids(self) -> range:
            self.looks += 1
            return super().get_node_ids()[: 2 if self.looks < 4 else 3]

    grid = Late(scripted_app(), 3, 5, config.to_flat())
    app = build_server_app(
        run_folder=tmp_path / "demo", listener=SilentListener(), sites_deadline_s=0.01
    )
    app(grid, context_of(config))
    first, second = RunFolder.open(tmp_path / "demo").read_rounds()
    assert [len(line["sites"]) for line in (first, second)] == [2, 3]


def test_a_run_is_resumed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server.runs_folder.RUNS_VARIABLE, str(tmp_path))
    monkeypatch.delenv(server.app.RUN_FOLDER_VARIABLE, raising=False)
    config = small_config(3)
    app = build_server_app(listener=SilentListener())
    with pytest.raises(FederationError, match="1 of 3 sites gave a usable answer"):
        app(grid_of(config, train={1: crash, 2: crash}), context_of(config))
    (path,) = tmp_path.iterdir()
    other = context_of(config, resume=path.name)
    other.run_id = 77
    app(grid_of(config), other)
    rounds = RunFolder.open(path).read_rounds()
    assert [line["server_round"] for line in rounds] == [1, 2]
    assert {line["run"] for line in rounds} == {path.name}  # not that of Flower's second run
    for name, says in (
        ("nope", "check the name of the run"),
        ("../x", "give the name of its folder, no path"),
        (path.name, r"is finished \(2 of 2 rounds"),
    ):
        with pytest.raises((RunFolderError, ConfigError), match=says):
            app(grid_of(config), context_of(config, resume=name))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_flwr_run_chooses_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in (server.app.RUN_FOLDER_VARIABLE, server.runs_folder.RUNS_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    default = chosen_run_folder(42)
    assert default.parent == Path("runs")
    assert default.name.endswith("Z-42")
    monkeypatch.setenv(server.runs_folder.RUNS_VARIABLE, str(tmp_path / "all"))
    assert chosen_run_folder(42).parent == tmp_path / "all"
    monkeypatch.setenv(server.app.RUN_FOLDER_VARIABLE, str(tmp_path / "this"))
    assert chosen_run_folder(42) == tmp_path / "this"


def test_the_module_level_app_is_what_flwr_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(server.runs_folder.RUNS_VARIABLE, str(tmp_path))
    config = small_config(3)
    with caplog.at_level(logging.INFO, logger="flwr.fedrec"):
        server.app.app(grid_of(config, train={1: crash}), context_of(config))
    (path,) = tmp_path.iterdir()
    assert {r["run"] for r in RunFolder.open(path).read_rounds()} == {path.name}


def test_a_run_name_is_never_shared() -> None:
    assert unique_run_name(Path("runs/demo"), 7) == "demo-7"
    assert unique_run_name(Path("runs/20260101T000000Z-7"), 7) == "20260101T000000Z-7"
    assert len(unique_run_name(Path("x" * 200), 2**64 - 1)) <= 200


def test_the_log_listener_tells_rounds_and_sites(caplog: pytest.LogCaptureFixture) -> None:
    listener = LogListener()
    logging.getLogger("flwr").propagate = True
    with caplog.at_level(logging.INFO, logger="flwr.fedrec"):
        listener.run_started(4)
        listener.round_started(1)
        listener.site_finished(1, "site-0000")
        listener.message("hello")
        sites = [
            {"site": "site-0000", "status": "ok", "reason": None},
            {"site": "site-0001", "status": "refused", "reason": "BudgetRefusal: 8.2 of 8"},
        ]
        record = {"run": "r", "server_round": 1, "seconds": 1.5, "sites": sites}
        listener.round_finished(record)
    assert [record.getMessage() for record in caplog.records] == [
        "run of 4 rounds starts",
        "hello",
        "round 1 of 4: 1 of 2 sites, 1.5 s",
        "site-0001 refused: BudgetRefusal: 8.2 of 8",
    ]
