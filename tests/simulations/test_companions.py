"""Companion runs: a federation of their own, with their own sites and ledgers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.config import (
    DataConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.run_folder import RunFolder
from simulations.companions import companion_config, run_companion
from simulations.datasets import load_dataset
from simulations.site_layout import write_sites


def tiny_config() -> RunConfig:
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=3),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(mode="local", targets_per_unit=2, negatives_per_unit=4),
        federation=FederationConfig(rounds=1, local_lr=0.1),
    )


def test_a_companion_trains_on_its_own_sites(tmp_path: Path) -> None:
    sites = tmp_path / "sites"
    config = tiny_config()
    write_sites(config.data, sites)
    config = companion_config(config, {"data.sites_folder": str(sites)})
    dataset = load_dataset(config.data)
    run = RunFolder.create(tmp_path / "run")
    changed = companion_config(config, {"model.item_side": "head"})
    folder = run_companion("frozen", changed, run, dataset)
    assert folder.path == run.path / "companions" / "frozen"
    assert folder.read_config().model.item_side == "head"
    adapter, _ = folder.read_adapter()
    assert adapter
    assert all(np.isfinite(tensor).all() for tensor in adapter.values())
    assert not list(sites.rglob("*.sqlite*"))  # nobody else's ledger was charged
    assert list((folder.path / "ledgers").iterdir())


def test_a_changed_configuration_is_checked_as_a_whole() -> None:
    with pytest.raises(ValueError, match="target_epsilon"):
        companion_config(tiny_config(), {"privacy.target_epsilon": float("inf")})
