"""The trade-off curve: its plain point is the evaluation's, and each way does what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.config import DataConfig, EvaluationConfig, FederationConfig, ModelConfig, PrivacyConfig
from common.config import RunConfig as Config
from common.holdout import hold_out
from common.interactions import Dataset
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations import cli
from simulations.diversity.curve import CurvePoint, candidates_of, curve, list_distances
from simulations.diversity.page import write_page
from simulations.evaluation.full_ranking import evaluate_scorer
from simulations.fairness.fairness_row import Audience
from simulations.simulate import simulate
from simulations.synthetic import synthetic_dataset
from tests.own_process import in_own_process


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset()


@pytest.fixture(scope="module")
def audience(dataset: Dataset) -> Audience:
    splits = hold_out(dataset.interactions, dataset.catalogue, split="leave_one_out", seed=0)
    return Audience.of(splits, len(dataset.catalogue), resamples=100, seed=0)


@pytest.fixture(scope="module")
def scores(dataset: Dataset, audience: Audience) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    found = rng.normal(size=(len(audience.splits), len(dataset.catalogue))).astype(np.float32)
    return found + 0.7 * np.log1p(audience.counts).astype(np.float32)


@pytest.fixture(scope="module")
def points(dataset: Dataset, audience: Audience, scores: NDArray[np.float32]) -> list[CurvePoint]:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(len(dataset.catalogue), 8)).astype(np.float32)
    prior = np.log1p(audience.counts).astype(np.float32)
    prior = (prior - prior.mean()) / prior.std()
    found = candidates_of(scores, audience, "test", dataset.catalogue, vectors, prior)
    return curve(found, audience, "test")


def of(points: list[CurvePoint], method: str) -> list[CurvePoint]:
    return [point for point in points if point.method == method]


def test_the_plain_point_is_the_evaluation_s(
    points: list[CurvePoint], audience: Audience, scores: NDArray[np.float32]
) -> None:
    exact = evaluate_scorer(lambda histories: scores, audience.splits, "test", users_per_batch=9999)
    assert points[0].ndcg.mean == pytest.approx(exact.ndcg_10.mean())
    assert points[0].difference.mean == 0


def test_each_way_gives_more_of_what_it_is_for(points: list[CurvePoint]) -> None:
    plain = points[0]
    assert of(points, "mmr")[-1].distance.low > plain.distance.high
    assert of(points, "calibrated")[-1].miscalibration.mean < plain.miscalibration.mean / 2
    assert of(points, "cap")[-1].exposure_gini.mean < plain.exposure_gini.mean
    # At its strongest it turns the order round, and the least popular crowd all lists.
    assert of(points, "popularity")[-1].exposure_gini.low > plain.exposure_gini.high
    strengths = [point.strength for point in of(points, "mmr")]
    assert strengths == sorted(strengths)


def test_distances_by_hand() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    lists = np.array([[0, 2, -1], [0, 1, -1], [0, 1, 2], [0, -1, -1]])
    assert list_distances(lists, vectors) == pytest.approx([0.0, 1.0, 2 / 3, 0.0])


def test_the_page_has_every_point_and_its_plots(points: list[CurvePoint], tmp_path: Path) -> None:
    page = tmp_path / "diversity.md"
    write_page(page, "Run r, test part", points)
    text = page.read_text()
    assert sum(line.startswith("| ") for line in text.splitlines()) == len(points) + 1
    for name in ("distance", "miscalibration", "coverage"):
        assert f"(diversity/{name}.svg)" in text
        assert (tmp_path / "diversity" / f"{name}.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_the_command_measures_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(
        data=DataConfig(dataset="synthetic", sites=3),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(mode="local", targets_per_unit=2, negatives_per_unit=4),
        federation=FederationConfig(rounds=1, local_lr=0.1, units_per_step=4),
        evaluation=EvaluationConfig(bootstrap_resamples=100, companions=""),
    )
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config(config)
    simulate(config, folder, SilentListener())
    fedrec = in_own_process(cli.main, "fedrec", monkeypatch=monkeypatch, capsys=capsys)
    code, out, err = fedrec("diversity", folder.path, "--stage", "test", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found[0]["method"] == "plain"
    rows = folder.read_json("metrics.json")["rows"]
    assert found[0]["ndcg"]["mean"] == pytest.approx(rows[0]["ndcg_10"]["mean"], abs=1e-6)
    page = (folder.path / "report.html").read_text()
    assert "What variety of lists would cost" in page
    assert page.count("each line begins at the plain lists") == 3
    assert len(folder.read_json("report.json")["diversity"]["points"]) == len(found)
    code, _, err = fedrec("diversity", tmp_path / "nothing")
    assert code == 2
    assert err.count("\n") == 1
