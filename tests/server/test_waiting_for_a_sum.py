"""A sum for which too few sites are connected waits for them, and asks nobody in vain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import server.enrolment
from client.agent import forget_agents
from common.config import RunConfig
from common.errors import FederationError
from common.initial_adapter import initial_adapter
from common.progress import SilentListener
from common.run_folder import RunFolder
from server.round_loop import run_rounds
from server.run_records import RunRecords
from server.strategy import FederatedAdapters
from tests.sum_federation import LossyGrid, sum_config, written_sites

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]
DEADLINE_S = 60.0


class GridWithOutage(LossyGrid):
    """After the popularity sum two of three sites are away; time passes when somebody waits."""

    def __init__(self, config: RunConfig, back_after_s: float) -> None:
        super().__init__(config)
        self.now, self.back_after_s = 0.0, back_after_s

    def get_node_ids(self) -> Any:
        nodes = super().get_node_ids()
        is_away = any(meta["server_round"] == 0 and meta["stage"] in ("unmask", "exact")
                      for _, meta in self.seen if "stage" in meta)  # fmt: skip
        return nodes[:1] if is_away and self.now < self.back_after_s else nodes

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1.0)


@pytest.fixture(autouse=True)
def no_agents_are_left() -> Any:
    yield
    forget_agents()


def start(
    tmp_path: Path, patch: pytest.MonkeyPatch, mode: str, back_after_s: float
) -> tuple[GridWithOutage, RunConfig]:
    config = sum_config(written_sites(tmp_path / "sites", 3), 3, mode=mode, max_colluders=0)
    federation = config.federation.model_copy(update={"round_deadline_s": DEADLINE_S})
    evaluation = config.evaluation.model_copy(update={"every": 0})
    config = config.model_copy(update={"federation": federation, "evaluation": evaluation})
    grid = GridWithOutage(config, back_after_s)
    patch.setattr(server.enrolment.time, "monotonic", lambda: grid.now)
    patch.setattr(server.enrolment.time, "sleep", grid.sleep)
    return grid, config


def serve(grid: GridWithOutage, config: RunConfig, path: Path, *, resume: bool = False) -> None:
    strategy = FederatedAdapters(config, "run", initial_adapter(config), SilentListener())
    records = RunRecords.resume(path, config) if resume else RunRecords.start(path, config, "run")
    run_rounds(grid, strategy, records, SilentListener())


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_sites_that_are_away_for_a_moment_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    grid, config = start(tmp_path, monkeypatch, mode, back_after_s=DEADLINE_S / 2)
    serve(grid, config, tmp_path / "run")
    lines = RunFolder.open(tmp_path / "run").read_rounds()
    assert [line["fault"] for line in lines] == [None] * 3
    assert all(site["status"] == "ok" for line in lines for site in line["sites"])


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_where_they_do_not_come_back_the_run_ends_unpaid_and_is_resumed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    grid, config = start(tmp_path, monkeypatch, mode, back_after_s=DEADLINE_S * 2)
    with pytest.raises(FederationError, match="1 of 3 enrolled sites are connected, too few"):
        serve(grid, config, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    assert [line["server_round"] for line in folder.read_rounds()] == [0, 1]
    assert {line["server_round"] for line in folder.read_releases()} == {0}
    assert DEADLINE_S <= grid.now < DEADLINE_S * 2
    grid.now = DEADLINE_S * 3
    serve(grid, config, tmp_path / "run", resume=True)
    lines = folder.read_rounds()
    assert [line["server_round"] for line in lines] == [0, 1, 2]
    assert all(site["status"] == "ok" for line in lines for site in line["sites"])
