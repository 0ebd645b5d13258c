from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from common.adapters import adapter_sha256
from common.config import EvaluationConfig, ModelConfig, RunConfig
from common.errors import FederationError, RunFolderError
from common.item_prior import item_prior_from_counts
from common.noise_plan import popularity_deviation
from common.progress import SilentListener
from common.run_folder import RunFolder
from server.round_loop import run_rounds, stages_due
from server.run_records import RunRecords
from server.site_waiting import wait_for_sites
from server.strategy import FederatedAdapters
from simulations.inprocess_grid import InProcessGrid
from tests.scripted_sites import (
    Behaviour,
    bad_update,
    good_training,
    refusal,
    scripted_app,
    small_adapter,
    small_config,
)


class Journal(SilentListener):
    def __init__(self) -> None:
        self.lines: list[Any] = []

    def run_started(self, total_rounds: int) -> None:
        self.lines.append(("run", total_rounds))

    def round_started(self, server_round: int) -> None:
        self.lines.append(("start", server_round))

    def round_finished(self, record: Any) -> None:
        self.lines.append(("end", record["server_round"]))


def federate(
    path: Path, config: RunConfig, app: ClientApp, listener: SilentListener | None = None
) -> FederatedAdapters:
    heard = listener or SilentListener()
    strategy = FederatedAdapters(config, "run", small_adapter(), heard)
    grid = InProcessGrid(app, config.data.sites, 5, config.to_flat())
    run_rounds(grid, strategy, RunRecords.start(path, config, "run"), heard)
    return strategy


def in_round(server_round: int, behaviour: Behaviour) -> Behaviour:
    def answer(message: Message, context: Context) -> Message:
        if message.metadata.group_id == str(server_round):
            return behaviour(message, context)
        return good_training(message, context)

    return answer


def test_a_run_leaves_everything_in_its_folder(tmp_path: Path) -> None:
    config = small_config(3, server_optimizer="fedadam", server_lr=0.5)
    strategy = federate(tmp_path, config, scripted_app())
    folder = RunFolder.open(tmp_path)
    assert folder.read_config() == config
    rounds = folder.read_rounds()
    assert [r["server_round"] for r in rounds] == [1, 2]
    assert [len(r["sites"]) for r in rounds] == [3, 3]
    assert rounds[0]["validation"] is None
    assert rounds[1]["validation"]["users"] == 6
    assert rounds[1]["test"]["hr_10"] == pytest.approx(0.5)
    assert all(r["update_norm"] > 0 and r["seconds"] >= 0 for r in rounds)
    kinds = [(r["kind"], r["server_round"], r["site"]) for r in folder.read_releases()]
    assert len(kinds) == 12
    assert kinds[:3] == [("update", 1, f"site-{i:04d}") for i in range(3)]
    adapter, metadata = folder.read_adapter()
    assert metadata["server_round"] == "2"
    assert metadata["config_sha256"] == config.sha256()
    for name, array in strategy.adapter.items():
        np.testing.assert_array_equal(adapter[name], array)


def test_the_checkpoint_holds_the_whole_state_bit_for_bit(tmp_path: Path) -> None:
    strategy = federate(tmp_path, small_config(2, server_optimizer="fedadam"), scripted_app())
    tensors, state = RunFolder.open(tmp_path).read_checkpoint()
    assert state["server_round"] == 2
    assert state["optimizer_steps"] == 2
    parts = {
        "adapter": strategy.adapter,
        "first": strategy.state.first,
        "second": strategy.state.second,
    }
    for prefix, arrays in parts.items():
        for name, array in arrays.items():
            stored = tensors[f"{prefix}/{name}"]
            assert stored.tobytes() == array.tobytes()
            assert stored.dtype == array.dtype
    assert len(tensors) == 7


def test_popularity_comes_first_and_gives_the_prior(tmp_path: Path) -> None:
    config = small_config(3).model_copy(update={"model": ModelConfig()})
    strategy = federate(tmp_path, config, scripted_app())
    deviation = popularity_deviation(config, 3)
    assert deviation > 0
    expected = item_prior_from_counts(3.0 * np.arange(5) + 3, deviation)
    np.testing.assert_array_equal(strategy.item_prior, expected)
    folder = RunFolder.open(tmp_path)
    assert [r["server_round"] for r in folder.read_rounds()] == [0, 1, 2]
    assert [r["kind"] for r in folder.read_releases()][:3] == ["popularity"] * 3


def test_too_few_popularity_releases_end_the_run_on_record(tmp_path: Path) -> None:
    config = small_config(3).model_copy(update={"model": ModelConfig()})
    app = scripted_app(popularity={0: refusal(), 1: refusal()})
    with pytest.raises(FederationError, match="1 of 3 sites gave .* the popularity release"):
        federate(tmp_path, config, app)
    (record,) = RunFolder.open(tmp_path).read_rounds()
    assert [site["status"] for site in record["sites"]] == ["refused", "refused", "ok"]


def test_too_few_sites_end_the_run_after_its_records_are_written(tmp_path: Path) -> None:
    config = small_config(3, rounds=5)
    nan = in_round(3, bad_update(math.nan))
    app = scripted_app({0: in_round(3, refusal()), 2: nan})
    with pytest.raises(FederationError, match="1 of 3 sites gave a usable answer to round 3"):
        federate(tmp_path, config, app)
    folder = RunFolder.open(tmp_path)
    rounds = folder.read_rounds()
    assert [r["server_round"] for r in rounds] == [1, 2, 3]
    assert [s["status"] for s in rounds[2]["sites"]] == ["refused", "ok", "non_finite"]
    assert rounds[2]["update_norm"] is None
    # the NaN update was released, and charged, all the same
    last = [r["site"] for r in folder.read_releases() if r["server_round"] == 3]
    assert last == ["site-0001", "site-0002"]
    assert folder.read_adapter()[1]["server_round"] == "2"


def test_an_interruption_keeps_every_release_so_far(tmp_path: Path) -> None:
    def interrupt(message: Message, context: Context) -> Message:
        raise KeyboardInterrupt

    app = scripted_app({2: in_round(2, interrupt)})
    with pytest.raises(KeyboardInterrupt):
        federate(tmp_path, small_config(3, rounds=3), app)
    folder = RunFolder.open(tmp_path)
    assert [r["server_round"] for r in folder.read_rounds()] == [1]
    second = [r["site"] for r in folder.read_releases() if r["server_round"] == 2]
    assert second == ["site-0000", "site-0001"]
    for path in tmp_path.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line)


def test_every_round_records_the_adapter_that_it_left(tmp_path: Path) -> None:
    federate(tmp_path, small_config(2, rounds=2), scripted_app())
    folder = RunFolder.open(tmp_path)
    first, last = (r["adapter_sha256"] for r in folder.read_rounds() if r["server_round"])
    assert last == adapter_sha256(folder.read_adapter()[0]) != first


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    federate(tmp_path, small_config(2), scripted_app())
    with pytest.raises(RunFolderError, match="already exists; choose another name"):
        federate(tmp_path, small_config(2), scripted_app())


def test_the_listener_hears_the_rounds_in_order(tmp_path: Path) -> None:
    journal = Journal()
    federate(tmp_path, small_config(2), scripted_app(), journal)
    assert journal.lines == [("run", 2), ("start", 1), ("end", 1), ("start", 2), ("end", 2)]


def test_a_site_that_will_not_be_evaluated_does_not_end_the_run(tmp_path: Path) -> None:
    app = scripted_app(evaluate={0: refusal("PolicyRefusal", "exact metrics may not leave")})
    federate(tmp_path, small_config(2), app)
    last = RunFolder.open(tmp_path).read_rounds()[-1]
    assert last["validation"]["users"] == 2
    assert [fault["site"] for fault in last["evaluation_faults"]] == ["site-0000"] * 2


@pytest.mark.parametrize(
    ("every", "validated"), [(0, [6]), (1, [1, 2, 3, 4, 5, 6]), (4, [4, 6]), (3, [3, 6])]
)
def test_validation_each_few_rounds_and_test_once(every: int, validated: list[int]) -> None:
    config = small_config(2, rounds=6).model_copy(
        update={"evaluation": EvaluationConfig(every=every)}
    )
    due = {r: stages_due(r, config) for r in range(1, 7)}
    assert [r for r, stages in due.items() if "validation" in stages] == validated
    assert [r for r, stages in due.items() if "test" in stages] == [6]


class Arriving(InProcessGrid):
    """A grid to which one more node connects at each look."""

    looks = 0

    def get_node_ids(self) -> range:
        self.looks += 1
        return super().get_node_ids()[: self.looks]


def _arriving(nodes: int) -> Arriving:
    return Arriving(scripted_app(), nodes, 5, {})


def wait(grid: InProcessGrid, sites: int, deadline_s: float, least: int) -> list[Any]:
    heard = Journal()
    heard.message = heard.lines.append  # type: ignore[method-assign]
    wait_for_sites(grid, sites, deadline_s, least, heard)
    return heard.lines


def test_the_run_waits_for_sites_that_come_late() -> None:
    grid = _arriving(3)
    assert wait(grid, 3, 30.0, 1) == []
    assert grid.looks == 3


@pytest.mark.parametrize(
    ("nodes", "says"), [(2, "2 of data.sites=4 sites appeared within 0.05 s"), (0, "0 of data")]
)
def test_missing_sites_end_the_wait(nodes: int, says: str) -> None:
    grid = InProcessGrid(scripted_app(), nodes, 5, {})
    with pytest.raises(FederationError, match=says) as fault:
        wait(grid, 4, 0.05, 3)
    assert "num-supernodes=4" in str(fault.value)


def test_enough_sites_start_the_run_at_the_deadline() -> None:
    said = wait(InProcessGrid(scripted_app(), 3, 5, {}), 4, 0.05, 3)
    assert said == ["starting with 3 of 4 sites; the others may join later"]


def test_too_many_sites_are_said_at_once() -> None:
    with pytest.raises(FederationError, match="5 of data.sites=4 sites appeared;"):
        wait(InProcessGrid(scripted_app(), 5, 5, {}), 4, 30.0, 2)


def test_a_deadline_that_nobody_meets_ends_the_run(tmp_path: Path) -> None:
    class Late(InProcessGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Any:
            list(messages)
            return []

    config = small_config(2)
    strategy = FederatedAdapters(config, "run", small_adapter(), SilentListener())
    grid = Late(scripted_app(), 2, 5, {})
    records = RunRecords.start(tmp_path, config, "run")
    with pytest.raises(FederationError, match=r"0 of 2 sites .*round_deadline_s=3600"):
        run_rounds(grid, strategy, records, SilentListener())
    assert len(RunFolder.open(tmp_path).read_rounds()) == 1
