"""A start's item codes follow their items into the new run's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.adapters import adapter_of
from common.bilinear_head import BilinearHead, ItemRows
from common.config import DataConfig, ModelConfig, RunConfig
from common.run_folder import RunFolder
from server.recoding import recoded_start

WIDTH, ITEMS, CODES = 6, 7, 4
OLD = np.array([3, 1, 4, 1, 5, 9, 2], dtype=np.float32)
SAME_ITEMS = np.array([5, 1, 9, 1, 3, 4, 2], dtype=np.float32)  # the four first are the same items
OTHER_ITEMS = np.array([3, 9, 4, 1, 5, 8, 2], dtype=np.float32)  # item 1 comes, item 0 goes


def config_of(matrix: str, dataset: str = "synthetic") -> RunConfig:
    model = {"head_dim": 3, "head_items": CODES, "head_matrix": matrix, "item_side": "head"}
    return RunConfig(data=DataConfig(dataset=dataset), model=ModelConfig.model_validate(model))


def head_of(config: RunConfig, prior: np.ndarray) -> BilinearHead:
    head = BilinearHead(WIDTH, config.model)
    head.set_item_prior(torch.from_numpy(prior))
    return head


def scores_of(head: BilinearHead) -> np.ndarray:
    vectors = torch.randn(1, ITEMS, WIDTH, generator=torch.Generator().manual_seed(1))
    rows = ItemRows(vectors, torch.arange(ITEMS)[None])
    history = ItemRows(vectors[:, :5], rows.items[:, :5])
    lags = len(head.profile)
    weights = torch.rand(1, 1, lags, 5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return head(history, weights, rows)[0, 0].numpy()


@pytest.mark.parametrize("matrix", ["symmetric", "per_lag"])
def test_scores_stay_where_the_order_changes_alone(tmp_path: Path, matrix: str) -> None:
    config = config_of(matrix)
    old = head_of(config, OLD)
    with torch.no_grad():
        old.mix.weight.normal_(generator=torch.Generator().manual_seed(0))
    adapter = {f"head.{name}": array for name, array in adapter_of(old).items()}
    source = RunFolder.create(tmp_path / "source")
    source.write_config(config)
    source.write_checkpoint({"item_prior": OLD}, {})

    def moved(prior: np.ndarray, asked: RunConfig) -> BilinearHead:
        start = recoded_start(asked, adapter, source, prior)
        head = head_of(asked, prior)
        with torch.no_grad():
            head.mix.weight.copy_(torch.from_numpy(start["head.mix.weight"]))
        return head

    expected = scores_of(old)
    np.testing.assert_allclose(scores_of(moved(SAME_ITEMS, config)), expected, atol=1e-5)
    unmoved = head_of(config, SAME_ITEMS)
    unmoved.load_state_dict(old.state_dict())
    assert np.abs(scores_of(unmoved) - expected).max() > 0.1  # what it would be left alone

    newcomer = moved(OTHER_ITEMS, config)
    place = int(newcomer.places[1])
    assert not newcomer.mix.weight[3 + place].any()
    abroad = moved(OLD, config_of(matrix, dataset="music"))
    assert not abroad.mix.weight[3:].any()
    np.testing.assert_array_equal(
        abroad.mix.weight[:3, :3].detach(), old.mix.weight[:3, :3].detach()
    )
