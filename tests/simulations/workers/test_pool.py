"""Real worker processes on scripted messages, and whole runs with one worker and two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from flwr.app import Message, RecordDict
from flwr.serverapp.grid import Grid

from common.config import RunConfig
from common.errors import FederationError
from common.message_records import META
from common.messages import PopularityRequest, encode_popularity_request, is_refusal
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.engines import run_engine
from simulations.message_desk import FIRST_NODE_ID, set_message_id
from simulations.simulated_sites import simulated_sites
from simulations.synthetic import synthetic_dataset
from simulations.workers import WorkerGrid, WorkerPool, worker_pool, worker_settings
from simulations.workers.process import WorkerTask
from tests.sum_federation import fresh_copy, sum_config, written_sites

SITES, RUN_ID = 5, 5
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def workers_now() -> set[int]:
    """Ids of this process's live children that `multiprocessing` made; its tracker stays."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:  # it has ended
            continue
        if "multiprocessing" in line and "resource_tracker" not in line:
            found.add(process.pid)
    return found


def tasks_of(config: RunConfig, workers: int, batch: int = 2) -> list[WorkerTask]:
    return [
        WorkerTask(SITES, RUN_ID, worker_settings(config, worker, workers), batch)
        for worker in range(workers)
    ]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = written_sites(tmp_path_factory.mktemp("five") / "sites", SITES)
    return with_engine(sum_config(folder, SITES, mode="none", insecure_seeded_noise=False))


def with_engine(config: RunConfig, **engine: Any) -> RunConfig:
    changed = config.engine.model_copy(update={"threads": 1, **engine})
    return config.model_copy(update={"engine": changed})


@pytest.fixture(scope="module")
def pool(config: RunConfig) -> Iterator[WorkerPool]:
    before = workers_now()
    with worker_pool(tasks_of(config, 2)) as made:
        yield made
    assert workers_now() == before


def asked(config: RunConfig, nodes: list[int]) -> Iterator[Message]:
    content = encode_popularity_request(PopularityRequest("r", config.sha256()))
    for node in nodes:
        yield Message(content, FIRST_NODE_ID + node, "query.popularity", group_id="0")


def names(replies: Iterator[Message]) -> list[str]:
    return [str(reply.content.config_records[META]["site"]) for reply in replies]


def test_replies_come_in_order_from_the_process_of_each_site(
    pool: WorkerPool, config: RunConfig
) -> None:
    grid = WorkerGrid(pool, SITES, RUN_ID, chunk=4)
    assert isinstance(grid, Grid)
    assert list(grid.get_node_ids()) == [FIRST_NODE_ID + at for at in range(SITES)]
    order = [4, 1, 3, 0, 2]
    replies = list(grid.send_and_receive(asked(config, order), timeout=60.0))
    assert names(iter(replies)) == [f"site-{at:04d}" for at in order]
    assert not any(is_refusal(reply.content) for reply in replies)
    assert len({reply.metadata.message_id for reply in replies}) == SITES
    assert {reply.metadata.run_id for reply in replies} == {RUN_ID}
    keys = grid.push_messages(asked(config, order))
    pulled = grid.pull_messages(keys)
    assert [reply.metadata.reply_to_message_id for reply in pulled] == keys


def test_a_reply_after_the_deadline_is_dropped_and_the_next_round_is_whole(
    pool: WorkerPool, config: RunConfig
) -> None:
    grid = WorkerGrid(pool, SITES, RUN_ID, chunk=10)
    late = list(asked(config, [0, 1, 2]))
    for message in late:
        set_message_id(message)
    assert list(pool.answers(late, left_s=0.0)) == [None, None, None]
    left = grid.send_and_receive(asked(config, [0, 1, 2, 3]))
    next(left)
    del left  # nobody takes the other three
    assert names(grid.send_and_receive(asked(config, [3, 2]))) == ["site-0003", "site-0002"]


def test_what_a_site_refuses_comes_back_as_its_refusal(pool: WorkerPool) -> None:
    other = sum_config(Path("/nowhere"), SITES)
    grid = WorkerGrid(pool, SITES, RUN_ID, chunk=10)
    (reply,) = grid.send_and_receive(asked(other, [1]))
    assert is_refusal(reply.content)
    (unknown,) = grid.send_and_receive([Message(RecordDict(), FIRST_NODE_ID, "query.other")])
    assert unknown.has_error()


def test_a_worker_that_dies_ends_the_run_in_one_line_and_all_others(config: RunConfig) -> None:
    before, killed = workers_now(), []

    def ask_after_a_kill() -> None:
        with worker_pool(tasks_of(config, 2)) as pool:
            killed.append(min(workers_now() - before))
            os.kill(killed[0], signal.SIGKILL)
            grid = WorkerGrid(pool, SITES, RUN_ID, chunk=10)
            list(grid.send_and_receive(asked(config, [0, 1])))

    with pytest.raises(FederationError, match=r"worker \d of 2 ended by itself") as fault:
        ask_after_a_kill()
    assert len(killed) == 1
    assert "exit code -9" in str(fault.value)
    assert "\n" not in str(fault.value)
    assert workers_now() == before


@pytest.mark.parametrize("mode", ["none", "local"])
def test_the_number_of_workers_changes_nothing(mode: str, tmp_path: Path) -> None:
    template = written_sites(tmp_path / "template", SITES, users=4 * SITES)
    done, before = {}, workers_now()
    for workers in (1, 2):
        sites = fresh_copy(template, tmp_path / f"sites-{workers}")
        config = sum_config(sites, SITES, mode=mode, insecure_seeded_noise=mode != "none")
        folder = RunFolder.create(tmp_path / f"run-{workers}")
        with simulated_sites(
            synthetic_dataset(), with_engine(config, workers=workers), folder
        ) as sited:
            run_engine(sited, folder, SilentListener())
        done[workers] = folder
        assert workers_now() == before
        ledgers = sorted((folder.path / "ledgers").iterdir())
        assert [path.stem for path in ledgers] == [f"site-{at:04d}" for at in range(SITES)]
    (left, _), (right, _) = done[1].read_adapter(), done[2].read_adapter()
    assert sorted(left) == sorted(right)
    for name, array in left.items():
        np.testing.assert_array_equal(right[name], array)
    assert any(np.abs(array).max() > 0 for array in left.values())
    assert [r["test"] for r in done[1].read_rounds()] == [r["test"] for r in done[2].read_rounds()]


INTERRUPTED = """
import sys
from pathlib import Path
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.engines import run_engine
if __name__ == "__main__":
    folder = RunFolder(Path(sys.argv[1]))
    try:
        run_engine(folder.read_config(), folder, SilentListener())
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_ends_every_worker_quietly(config: RunConfig, tmp_path: Path) -> None:
    federation = config.federation.model_copy(update={"rounds": 10_000})
    endless = with_engine(config.model_copy(update={"federation": federation}), workers=2)
    records = RunFolder.create(tmp_path / "run")
    records.write_config(endless)
    command = [sys.executable, "-c", INTERRUPTED, str(records.path)]
    log = tmp_path / "errors"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stderr=errors, start_new_session=True)
    try:
        end = time.monotonic() + 300
        while len(records.read_rounds()) < 2 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        assert process.poll() is None, log.read_text()
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 2
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
    psutil.wait_procs(started, timeout=10)
    assert [each for each in started if each.is_running()] == []
