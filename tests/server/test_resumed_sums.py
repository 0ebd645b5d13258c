"""Sums survive their server: no part is paid for twice, none is lost, no noise drawn twice."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.agent import SiteAgent, forget_agents
from common.adapters import adapter_sha256
from common.errors import RunFolderError
from common.initial_adapter import initial_adapter
from common.messages import SumRequest
from common.run_folder import RunFolder
from server import sum_rounds
from server.sum_transcript import FOLDER
from tests.killed_server import Killed, KilledRun, KillPoints
from tests.sum_federation import (
    ITEMS,
    LossyGrid,
    SumFederation,
    fresh_copy,
    site_name,
    sum_config,
    written_sites,
)

SITES = 4
LIMITS = {"max_dropouts": 1, "max_colluders": 0}
NAMES = [site_name(at) for at in range(SITES)]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_sites(tmp_path_factory.mktemp("sites") / "sites", SITES)


@pytest.fixture
def points() -> Iterator[KillPoints]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SiteAgent, "_exact_sum", exact_sum)
        yield KillPoints(patch)
    forget_agents()


def exact_sum(agent: SiteAgent, request: SumRequest) -> Any:
    """In place of training: it depends on the site, the round, and the adapter to be trained."""
    seed = [int(agent.data.site[-4:]), request.server_round]
    if request.server_round == 0:
        return np.random.default_rng(seed).uniform(0, 0.1, ITEMS)
    seed += list(bytes.fromhex(adapter_sha256(request.adapter)))
    size = sum(array.size for array in request.adapter.values())
    return np.random.default_rng(seed).normal(0, 1e-3, size)


class SumRun(KilledRun):
    """A run over sites of its own."""

    def __init__(self, template: Path, folder: Path, mode: str, points: KillPoints) -> None:
        folder.mkdir()
        sites = fresh_copy(template, folder / "sites")
        config = sum_config(sites, SITES, mode=mode, **LIMITS)
        changed = {"metrics": "none"}
        evaluation = config.evaluation.model_copy(update=changed)
        config = config.model_copy(update={"evaluation": evaluation})
        super().__init__(config, folder / "run", points, initial_adapter(config))

    def go_on(self, kill_at: int | None = None, **lost: str) -> Any:
        forget_agents()
        grid = LossyGrid(self.config)
        for site in lost:
            grid.lost |= {(site, stage, 1): "in" for stage in lost[site].split()}
        self.grid = grid
        return self.serve(grid, kill_at)

    def charges(self) -> dict[str, list[tuple[int, str]]]:
        """What each site's ledger was charged for, and that it is sound."""
        forget_agents()
        federation, found = SumFederation(self.config), {}
        for site in NAMES:
            ledger = federation.agent(site).ledger
            found[site] = [
                (entry["server_round"], entry["record"]["kind"])
                for entry in ledger.export()["releases"]
            ]
            assert federation.ledger_of(site).verify() == []
        forget_agents()
        return found


def final(strategy: Any) -> str:
    return adapter_sha256(strategy.adapter)


@pytest.mark.parametrize(
    ("mode", "kills"),
    [
        ("distributed", 1),
        ("central", 1),
        pytest.param("distributed", 16, marks=pytest.mark.slow),
        pytest.param("central", 16, marks=pytest.mark.slow),
    ],
)
def test_a_sum_goes_on_where_its_server_was_killed(
    mode: str, kills: int, template: Path, tmp_path: Path, points: KillPoints
) -> None:
    whole = SumRun(template, tmp_path / "whole", mode, points)
    expected = final(whole.go_on())
    charges, passed = whole.charges(), list(points.passed)
    assert {len(found) for found in charges.values()} == {3}
    assert not list((whole.path / FOLDER).iterdir())
    draw = random.Random(f"{mode} {kills}")
    for number, at in enumerate(sorted(draw.sample(range(len(passed) - 1), kills))):
        killed = SumRun(template, tmp_path / f"killed-{number}", mode, points)
        with pytest.raises(Killed):
            killed.go_on(at)
        deaths, again = 1, draw.randrange(40)
        try:
            strategy = killed.go_on(again)
        except Killed:
            deaths, strategy = 2, killed.go_on()
        where = f"{at} {passed[at]}, {deaths} deaths, the second at {again}"
        assert final(strategy) == expected, where
        assert killed.charges() == charges, where
        assert killed.records() == whole.records(), where


def test_a_site_that_left_while_the_server_was_down_is_a_dropout(
    template: Path, tmp_path: Path, points: KillPoints
) -> None:
    whole = SumRun(template, tmp_path / "whole", "distributed", points)
    whole.go_on(**{NAMES[2]: "sign_survivors unmask"})
    _, at, _ = (n for n, name in enumerate(points.passed) if name == "after write_bytes mask_input")
    killed = SumRun(template, tmp_path / "killed", "distributed", points)
    with pytest.raises(Killed):
        killed.go_on(at)
    stages = {path.name for path in (killed.path / FOLDER).glob("*/*")}
    assert stages == {"invited", "advertise", "share_keys", "mask_input"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (killed.path / FOLDER).glob("*/*"))
    strategy = killed.go_on(**{NAMES[2]: "sign_survivors unmask"})
    asked = [meta["stage"] for meta, _ in killed.grid.seen if meta.get("server_round") == 1]
    assert set(asked) == {"sign_survivors", "unmask"}
    assert adapter_sha256(RunFolder.open(whole.path).read_adapter()[0]) == final(strategy)
    assert killed.charges() == whole.charges()
    assert killed.records() == whole.records()


def test_the_noise_of_one_sum_is_drawn_once(
    template: Path, tmp_path: Path, points: KillPoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    real = sum_rounds.discrete_gaussian

    def counted(*arguments: Any) -> Any:
        drawn.append(len(drawn))
        return real(*arguments)

    monkeypatch.setattr(sum_rounds, "discrete_gaussian", counted)
    run = SumRun(template, tmp_path / "run", "central", points)
    run.go_on()
    assert len(drawn) == 3
    at = [place for place, name in enumerate(points.passed) if name.endswith("noised")]
    for number, point in enumerate(at[1::2]):  # after each of the three was written down
        drawn.clear()
        killed = SumRun(template, tmp_path / f"killed-{number}", "central", points)
        with pytest.raises(Killed):
            killed.go_on(point)
        kept = b"".join(path.read_bytes() for path in (killed.path / FOLDER).glob("*/*"))
        killed.go_on()
        assert len(drawn) == 3
        parts = [answer["payload"] for asked, answer in killed.grid.seen if "payload" in answer]
        assert not any(base64.b64encode(part) in kept for part in parts)  # no exact part on disk


def test_a_damaged_transcript_is_one_clear_line(
    template: Path, tmp_path: Path, points: KillPoints
) -> None:
    run = SumRun(template, tmp_path / "run", "distributed", points)
    with pytest.raises(Killed):
        run.go_on(60)
    (path,) = (run.path / FOLDER).glob("*/advertise")
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(RunFolderError, match="is damaged, or of another sum; restore it") as fault:
        run.go_on()
    assert "\n" not in str(fault.value)


def test_a_site_that_comes_late_enrols_before_the_next_round(
    template: Path, tmp_path: Path, points: KillPoints
) -> None:
    run = SumRun(template, tmp_path / "run", "distributed", points)

    class Late(LossyGrid):
        looks = 0

        def get_node_ids(self) -> Any:
            self.looks += 1  # enrolment and invitation of popularity, of round 1, of round 2
            return super().get_node_ids()[: 3 if self.looks < 5 else 4]

    run.serve(Late(run.config))
    lines = RunFolder.open(run.path).read_rounds()
    assert [len(line["sites"]) for line in lines] == [3, 3, 4]
    assert all(site["status"] == "ok" for line in lines for site in line["sites"])
    assert [len(found) for found in run.charges().values()] == [3, 3, 3, 1]


def test_a_site_that_is_gone_when_the_sum_goes_on_keeps_its_part_in_it(
    template: Path, tmp_path: Path, points: KillPoints
) -> None:
    run = SumRun(template, tmp_path / "run", "distributed", points)
    run.go_on()
    _, at, _ = (n for n, name in enumerate(points.passed) if name == "after write_bytes mask_input")
    killed = SumRun(template, tmp_path / "killed", "distributed", points)
    with pytest.raises(Killed):
        killed.go_on(at)

    class Smaller(LossyGrid):
        def get_node_ids(self) -> Any:
            return super().get_node_ids()[:3]

    killed.serve(Smaller(killed.config))
    whole, found = (RunFolder.open(each.path).read_rounds() for each in (run, killed))
    assert found[1]["adapter_sha256"] == whole[1]["adapter_sha256"]
    assert [site["status"] for site in found[1]["sites"]] == ["ok"] * 4
    assert [site["site"] for site in found[2]["sites"]] == NAMES[:3]
    assert [len(each) for each in killed.charges().values()] == [3, 3, 3, 2]
