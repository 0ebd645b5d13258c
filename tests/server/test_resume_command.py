from __future__ import annotations

from pathlib import Path

import pytest
from flwr.common.config import get_fused_config_from_dir, parse_config_args

from common.config_loading import load_config
from common.errors import ConfigError, RunFolderError
from common.progress import SilentListener
from common.run_folder import RunFolder
from common.run_keys import resumed_run
from server.resume_command import resume_command, resume_run
from server.round_loop import run_rounds
from server.run_records import RunRecords
from server.strategy import FederatedAdapters
from simulations.inprocess_grid import InProcessGrid
from tests.scripted_sites import crash, scripted_app, small_adapter, small_config


def run_folder(path: Path, *, is_cut_short: bool) -> RunFolder:
    config = small_config(2)
    strategy = FederatedAdapters(config, path.name, small_adapter(), SilentListener())
    app = scripted_app(train={1: crash} if is_cut_short else None)
    grid = InProcessGrid(app, 2, 5, config.to_flat())
    records = RunRecords.start(path, config, path.name)
    if is_cut_short:
        with pytest.raises(Exception, match="1 of 2 sites"):
            run_rounds(grid, strategy, records, SilentListener())
    else:
        run_rounds(grid, strategy, records, SilentListener())
    return RunFolder.open(path)


def test_the_command_gives_flower_every_key_of_the_run_and_its_name(
    tmp_path: Path, repository: Path
) -> None:
    folder = run_folder(tmp_path / "week-1", is_cut_short=True)
    command = resume_command(folder.path, app=repository, connection="partner")
    assert command[:5] == ["flwr", "run", str(repository), "partner", "--stream"]
    assert command[5] == "--run-config"
    flat = get_fused_config_from_dir(repository, parse_config_args([command[6]]))
    assert resumed_run(flat) == "week-1"
    assert load_config(flat=flat) == folder.read_config()


def test_the_command_is_printed_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path / "a run", is_cut_short=True)
    with pytest.raises(ConfigError, match="is not the name of a run"):
        resume_run(folder.path, app=Path("."), only_print=True)
    named = folder.path.rename(tmp_path / "named")
    resume_run(named, app=Path("."), only_print=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("flwr run . --stream --run-config ")


def test_nothing_is_left_of_a_finished_run(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "done", is_cut_short=False)
    with pytest.raises(RunFolderError, match="is finished: all its rounds are on record"):
        resume_command(folder.path, app=Path("."))
