"""A run goes on after its server was killed, wherever that was, as if nothing had been."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import EvaluationConfig, ModelConfig, RunConfig
from common.errors import FederationError, RunFolderError
from common.run_folder import RunFolder
from server.run_lock import only_server
from server.run_records import RunRecords
from simulations.inprocess_grid import InProcessGrid
from tests.killed_server import Killed, KilledRun, KillPoints
from tests.scripted_sites import crash, scripted_app, small_adapter, small_config

SITES = 2


@pytest.fixture
def points() -> Iterator[KillPoints]:
    with pytest.MonkeyPatch.context() as patch:
        yield KillPoints(patch)


def run_config(**federation: Any) -> RunConfig:
    config = small_config(SITES, **({"server_optimizer": "fedadam", "server_lr": 0.5} | federation))
    model, evaluation = ModelConfig(), EvaluationConfig(every=1)
    privacy = config.privacy.model_copy(update={"mode": "none"})
    fair = config.federation.model_copy(update={"weighting": "fair"})
    changed = {"model": model, "evaluation": evaluation, "privacy": privacy, "federation": fair}
    return config.model_copy(update=changed)


def grid_of(config: RunConfig, **script: Any) -> InProcessGrid:
    return InProcessGrid(scripted_app(**script), config.data.sites, 5, config.to_flat())


def new_run(path: Path, points: KillPoints, config: RunConfig | None = None) -> KilledRun:
    return KilledRun(config or run_config(), path, points, small_adapter())


def files(path: Path) -> dict[str, object]:
    """The run's adapter and checkpoint; and nothing half-written anywhere."""
    assert not list(path.rglob("*.tmp"))
    folder = RunFolder.open(path)
    tensors, state = folder.read_checkpoint()
    del state["record"]["started_at"], state["record"]["seconds"]
    adapter, metadata = folder.read_adapter()
    kept = {name: array.tobytes() for name, array in tensors.items()}
    final = {name: array.tobytes() for name, array in adapter.items()}
    return {"adapter": final, "metadata": metadata, "tensors": kept, "state": state}


def test_wherever_a_server_is_killed_the_run_ends_as_if_it_had_not_been(
    tmp_path: Path, points: KillPoints
) -> None:
    config = run_config()
    whole = new_run(tmp_path / "whole", points)
    whole.serve(grid_of(config))
    passed, expected = list(points.passed), files(whole.path)
    kinds = Counter(point.removeprefix("before ").split(" ")[0] for point in passed)
    assert kinds["train"] == 2 * SITES
    assert {"write_bytes", "append_json_lines", "write_json", "evaluate"} <= set(kinds)
    for at, point in enumerate(passed):
        killed = new_run(tmp_path / f"killed-{at}", points)
        with pytest.raises(Killed):
            killed.serve(grid_of(config), kill_at=at)
        is_over = at == len(passed) - 1
        if is_over:
            with pytest.raises(RunFolderError, match=r"is finished \(2 of 2 rounds"):
                killed.serve(grid_of(config))
        else:
            killed.serve(grid_of(config))
        assert files(killed.path) == expected, point
        assert killed.records() == whole.records(), point


def test_killed_again_and_again_it_still_ends_the_same(tmp_path: Path, points: KillPoints) -> None:
    config = run_config()
    whole = new_run(tmp_path / "whole", points)
    whole.serve(grid_of(config))
    expected = files(whole.path)
    draw = np.random.default_rng(7)
    killed, deaths = new_run(tmp_path / "killed", points), 0
    while True:
        try:
            killed.serve(grid_of(config), kill_at=int(draw.integers(1, 25)))
            break
        except Killed:
            deaths += 1
    assert deaths >= 3
    assert files(killed.path) == expected
    assert killed.records() == whole.records()


def test_a_run_that_lost_too_many_sites_asks_for_the_round_again(
    tmp_path: Path, points: KillPoints
) -> None:
    config = run_config()
    whole = new_run(tmp_path / "whole", points)
    whole.serve(grid_of(config))
    short = new_run(tmp_path / "short", points)
    with pytest.raises(FederationError, match="1 of 2 sites gave a usable answer to round 1"):
        short.serve(grid_of(config, train={1: crash}))
    assert [line["server_round"] for line in RunFolder.open(short.path).read_rounds()] == [0, 1]
    short.serve(grid_of(config))
    assert files(short.path) == files(whole.path)
    rounds, releases = short.records()
    expected_rounds, expected_releases = whole.records()
    assert rounds == expected_rounds
    assert sorted(map(repr, releases)) == sorted(map(repr, expected_releases))


def killed_at_start(path: Path, points: KillPoints, **changed: Any) -> KilledRun:
    run = new_run(path, points, run_config(**changed))
    with pytest.raises(Killed):
        run.serve(grid_of(run.config), kill_at=40)
    return run


def test_what_a_killed_server_had_half_written_is_removed(
    tmp_path: Path, points: KillPoints
) -> None:
    run = killed_at_start(tmp_path / "run", points)
    halves = [run.path / ".rounds.jsonl.0a1b.tmp", run.path / "checkpoint" / ".c.0a1b.tmp"]
    for half in halves:
        half.write_bytes(b"half")
    RunRecords.resume(run.path, run.config)
    assert not any(half.exists() for half in halves)
    assert RunFolder(run.path).checkpoint_file.exists()


def test_another_configuration_is_refused_with_the_keys_that_differ(
    tmp_path: Path, points: KillPoints
) -> None:
    run = killed_at_start(tmp_path / "run", points)
    other = run_config(rounds=3, server_lr=0.25)
    with pytest.raises(RunFolderError) as fault:
        RunRecords.resume(run.path, other)
    line = str(fault.value)
    for key in ("federation.rounds=2, asked now is 3", "federation.server_lr=0.5, asked now is 0"):
        assert key in line
    assert "\n" not in line
    engine = run.config.engine.model_copy(update={"threads": 3})
    assert RunRecords.resume(run.path, run.config.model_copy(update={"engine": engine}))


def test_what_is_no_run_to_resume_is_one_clear_line(tmp_path: Path, points: KillPoints) -> None:
    with pytest.raises(RunFolderError, match="no such folder"):
        RunRecords.resume(tmp_path / "nope", run_config())
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"is not a run: it has no config\.toml"):
        RunRecords.resume(tmp_path / "thesis", run_config())
    RunFolder.create(tmp_path / "new").write_config(run_config())
    with pytest.raises(RunFolderError, match="no checkpoint to resume from: no site was asked"):
        RunRecords.resume(tmp_path / "new", run_config())


def test_any_damage_of_the_checkpoint_is_found(tmp_path: Path, points: KillPoints) -> None:
    run = killed_at_start(tmp_path / "run", points)
    path = RunFolder(run.path).checkpoint_file
    content = path.read_bytes()
    for at in range(0, len(content), len(content) // 60):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(RunFolderError) as fault:
            run.serve(grid_of(run.config))
        assert "\n" not in str(fault.value)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunFolderError, match="damaged"):
        run.serve(grid_of(run.config))
    path.write_bytes(content)
    run.serve(grid_of(run.config))


def test_a_log_of_rounds_that_lost_lines_is_refused(tmp_path: Path, points: KillPoints) -> None:
    run = new_run(tmp_path / "run", points)
    run.serve(grid_of(run.config))
    log = run.path / "rounds.jsonl"
    log.write_text(log.read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8")
    with pytest.raises(RunFolderError, match="has 1 lines where the checkpoint knows of 3"):
        run.serve(grid_of(run.config))


def test_two_servers_never_work_on_one_run(tmp_path: Path) -> None:
    again = pytest.raises(RunFolderError, match="a server is at work on the run")
    with only_server(tmp_path / "run"), again, only_server(tmp_path / "run"):
        raise AssertionError("it was held twice")
    with only_server(tmp_path / "run"):
        pass


def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, points: KillPoints
) -> None:
    config = run_config()
    whole = new_run(tmp_path / "whole", points)
    whole.serve(grid_of(config))
    largest = (whole.path / "releases.jsonl").stat().st_size
    run, said = new_run(tmp_path / "run", points), tmp_path / "said"
    for room in (largest // 2, largest - 1):  # of bytes that a file may have, by the kernel
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
                run.serve(grid_of(config))
            except RunFolderError as fault:
                said.write_text(str(fault))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        line = said.read_text()
        assert "releases.jsonl: file too large; raise the limit on file sizes" in line
        assert "\n" not in line
    run.serve(grid_of(config))
    assert files(run.path) == files(whole.path)
    assert run.records() == whole.records()
