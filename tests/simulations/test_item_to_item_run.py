"""Whole runs with an item-to-item component: its cost is on record and its scores are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.build_recommender import build_recommender
from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.holdout import hold_out
from common.item_to_item import NO_WEIGHTS, item_to_item
from common.progress import SilentListener
from common.recorded_epsilon import check_recorded, spending_by_site
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.evaluation.full_ranking import evaluate_scorer
from simulations.report.run_files import read_releases
from simulations.run_scorer import run_scorer, scorer_of
from simulations.run_statistics import RunStatistics, run_statistics
from simulations.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("mode", ["none", "local", "distributed", "central"])
def test_a_run_releases_pairs_once_and_ranks_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("FEDREC_CACHE", str(tmp_path / "cache"))
    config = RunConfig(
        data=DataConfig(dataset="synthetic", sites=3),
        model=ModelConfig(
            head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2,
            item_to_item=True, item_to_item_items=0 if mode == "none" else 20,
        ),
        privacy=PrivacyConfig(
            mode=mode, targets_per_unit=2, negatives_per_unit=4, max_dropouts=0, max_colluders=1
        ),
        federation=FederationConfig(rounds=2, local_lr=0.1),
        evaluation=EvaluationConfig(every=1, bootstrap_resamples=100),
    )  # fmt: skip
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config(config)
    metrics = simulate(config, folder, SilentListener()).metrics

    releases = read_releases(folder.path / "releases.jsonl")
    pairs = [record for record in releases if record.kind == "cooccurrence"]
    assert [record.site for record in pairs] == [f"site-{at:04d}" for at in range(3)]
    kinds = [r.kind for r in releases if r.site == "site-0000" and r.kind != "metrics"]
    assert kinds == ["popularity", "cooccurrence", "update", "update"]
    statement = (folder.path / "PRIVACY.md").read_text(encoding="utf-8")
    assert "which items occur together in histories, released once by each site" in statement
    assert "co-occurrence of items" in statement  # who sees what
    if config.is_private:
        sites = spending_by_site(releases)
        check_recorded(sites)
        for site in sites:
            assert 0.98 * 8 <= site.recomputed["prv"] <= 8
            assert abs(site.recomputed["prv"] - site.recomputed["pld"]) <= 0.02
        without = spending_by_site([r for r in releases if r.kind != "cooccurrence"])
        assert without[0].recomputed["prv"] < sites[0].recomputed["prv"] - 0.1

    _check_that_all_rank_alike(config, folder, metrics)


def _check_that_all_rank_alike(config: RunConfig, folder: RunFolder, metrics: object) -> None:
    """Sites and lab rank with the component; without it the scores are others."""
    dataset = load_dataset(config.data)
    splits = hold_out(
        dataset.interactions, dataset.catalogue, split=config.data.split, seed=config.data.seed
    )
    recommender = build_recommender(config, dataset.catalogue)
    adapter, (prior, weights) = folder.read_adapter()[0], run_statistics(folder)
    assert np.abs(weights).max() > 0
    histories = [split.train.items for split in splits[:5]]
    alone = scorer_of(recommender, adapter, RunStatistics(prior, NO_WEIGHTS))(histories)
    fused = run_scorer(recommender, folder)
    component = item_to_item(weights, prior, most=config.model.item_to_item_items, weight=1.4)
    assert component is not None
    np.testing.assert_allclose(fused(histories), alone + component.scores(histories), atol=1e-5)
    by_lab = evaluate_scorer(fused, splits, "test")
    by_sites = folder.read_rounds()[-1]["test"]
    assert by_sites["ndcg_10"] == pytest.approx(by_lab.ndcg_10.mean(), abs=1e-6)
    (model,) = (row for row in metrics["rows"] if row["kind"] == "model")  # type: ignore[index]
    assert model["ndcg_10"]["mean"] == pytest.approx(by_lab.ndcg_10.mean())
