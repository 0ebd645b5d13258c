"""Whole runs on synthetic data: how sites are batched never changes what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulations.engines.inprocess
from client.app import app
from client.site_by_site import SITE_BY_SITE
from client.training_job import TrainingJob
from common.adapters import Adapter
from common.config import RunConfig
from common.errors import FederationError
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.batch_trainer import OneByOne
from simulations.engines.inprocess import run_inprocess
from simulations.inprocess_grid import InProcessGrid
from simulations.trainers import batch_trainer
from tests.sum_federation import fresh_copy, sum_config, written_sites

SITES, ROUNDS = 5, 2
BATCHES = {1: [1] * 5, 2: [2, 2, 1], 64: [5]}
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


class Journal(OneByOne):
    """Trains one by one, and keeps how many jobs came together."""

    def __init__(self) -> None:
        super().__init__(SITE_BY_SITE)
        self.sizes: list[int] = []
        self.failing = ""

    def updates(self, jobs: Sequence[TrainingJob]) -> list[Adapter | Exception]:
        self.sizes.append(len(jobs))
        if self.failing in [job.site for job in jobs]:
            raise MemoryError("too many rows")
        return super().updates(jobs)

    def exact_sums(self, jobs: Sequence[TrainingJob]) -> list[Any]:
        self.sizes.append(len(jobs))
        return super().exact_sums(jobs)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_sites(tmp_path_factory.mktemp("five") / "sites", SITES, users=4 * SITES)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    made = Journal()
    monkeypatch.setattr(simulations.engines.inprocess, "batch_trainer", lambda config: made)
    return made


@pytest.fixture
def config_of(five: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """A run over sites that have no past yet."""

    def make(name: str, mode: str, **privacy: Any) -> RunConfig:
        config = sum_config(
            fresh_copy(five, tmp_path / name),
            SITES,
            rounds=ROUNDS,
            mode=mode,
            insecure_seeded_noise=mode != "none",
            **privacy,
        )
        engine = config.engine.model_copy(update={"threads": 1})
        return config.model_copy(update={"engine": engine})

    return make


def run(config: RunConfig, folder: Path, batch: int) -> RunFolder:
    records = RunFolder.create(folder)
    run_inprocess(config, records, SilentListener(), batch=batch)
    return records


def same(left: RunFolder, right: RunFolder) -> None:
    (mine, _), (theirs, _) = left.read_adapter(), right.read_adapter()
    assert sorted(mine) == sorted(theirs)
    for name, array in mine.items():
        np.testing.assert_array_equal(theirs[name], array)
    own = {"run", "ledger_checkpoint", "payload_sha256"}
    mine_lines, their_lines = (
        [{k: v for k, v in line.items() if k not in own} for line in each.read_releases()]
        for each in (left, right)
    )
    assert mine_lines == their_lines
    assert [r["test"] for r in left.read_rounds()] == [r["test"] for r in right.read_rounds()]


@pytest.mark.parametrize("mode", ["none", "local", "central", "distributed"])
def test_a_run_is_the_same_bit_for_bit_whatever_the_batch(
    mode: str,
    config_of: Callable[..., RunConfig],
    journal: Journal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain_grid(client_app: Any, *arguments: Any, **_: Any) -> InProcessGrid:
        return InProcessGrid(app, *arguments)  # the app that Flower's engine starts

    with monkeypatch.context() as patch:
        patch.setattr(simulations.engines.inprocess, "InProcessGrid", plain_grid)
        reference = run(config_of("plain", mode), tmp_path / "run", 1)
    assert journal.sizes == []
    moved = [name for name, array in reference.read_adapter()[0].items() if np.abs(array).max() > 0]
    assert any(name.startswith("head.") for name in moved)
    for batch, sizes in BATCHES.items():
        journal.sizes.clear()
        same(reference, run(config_of(f"batch-{batch}", mode), tmp_path / str(batch), batch))
        assert journal.sizes == sizes * ROUNDS


def test_a_batch_that_fails_is_each_sites_own_refusal(
    config_of: Callable[..., RunConfig], journal: Journal, tmp_path: Path
) -> None:
    journal.failing = "site-0002"
    records = run(config_of("sites", "local"), tmp_path / "run", 2)
    for record in records.read_rounds()[1:]:
        assert {site["site"]: site["status"] for site in record["sites"]} == {
            "site-0000": "ok",
            "site-0001": "ok",
            "site-0002": "error",
            "site-0003": "error",  # it was in the same batch
            "site-0004": "ok",
        }
    trained = {r["site"] for r in records.read_releases() if r["kind"] == "update"}
    assert trained == {"site-0000", "site-0001", "site-0004"}


def test_all_batches_failing_ends_the_run_in_one_line(
    config_of: Callable[..., RunConfig], journal: Journal, tmp_path: Path
) -> None:
    journal.failing = "site-0000"
    with pytest.raises(FederationError, match="0 of 5 sites gave a usable answer to round 1"):
        run(config_of("sites", "local"), tmp_path / "run", 64)


@pytest.mark.parametrize("training", ["stacked", "site_by_site"])
def test_every_engine_training_has_a_trainer(training: Any) -> None:
    config = RunConfig()
    engine = config.engine.model_copy(update={"training": training})
    chosen = batch_trainer(config.model_copy(update={"engine": engine}))
    assert chosen.updates([]) == []
