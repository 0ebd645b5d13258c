"""What the instruments work on: a run's configuration and items, and made-up units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.config import (
    DataConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.interactions import Catalogue
from common.noise_plan import noise_multiplier
from common.randomness import RandomSource, secure_source, seeded_source
from simulations.synthetic import synthetic_dataset

TINY_USERS, TINY_ITEMS = 12, 30
_TINY_MODEL = ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2)
_TINY_DRAWS = {"targets_per_unit": 2, "negatives_per_unit": 4, "max_site_units": 60}


@dataclass(frozen=True)
class ProbeCase:
    """A run's public side.

    Attributes:
        config: the run's configuration.
        catalogue: its items; units are made up from them, no user's data are touched.
    """

    config: RunConfig
    catalogue: Catalogue


@dataclass(frozen=True)
class Budget:
    """How much the checks may draw; every figure is fixed before any result is seen.

    Attributes:
        alpha: false alarms of one check where the claim holds.
        sampler_steps: sampler-only steps of A3.
        observations: of A4, in each world.
        canaries: of A4 and A5.
        canary_steps: steps of A5; 0: the run's own number.
        noise_numbers: least numbers behind a noise check.
        seed: of the audit's own draws in A3 to A5; None: nobody can repeat them.
    """

    alpha: float = 1e-3
    sampler_steps: int = 2_000
    observations: int = 20_000
    canaries: int = 2_000
    canary_steps: int = 0
    noise_numbers: int = 20_000
    seed: int | None = None

    def source(self, purpose: str) -> RandomSource:
        """A fresh source for one purpose."""
        if self.seed is None:
            return secure_source()
        return seeded_source(self.seed, "audit", purpose)


def changed(config: RunConfig, **sections: Mapping[str, object]) -> RunConfig:
    """`config` with other values, by section; σ stays what it was unless it is among them."""
    privacy = dict(sections.pop("privacy", {}))
    if config.is_private:
        privacy.setdefault("noise_multiplier", noise_multiplier(config))
    updates = {"privacy": privacy, **sections}
    return config.model_copy(
        update={
            name: getattr(config, name).model_copy(update=dict(values))
            for name, values in updates.items()
        }
    )


def tiny_case(**privacy: object) -> ProbeCase:
    """The smallest run of the real parts: a real BERT with a narrow head, made-up items."""
    fields: dict[str, Any] = {"mode": "local", "noise_multiplier": 1.0, "sample_rate": 0.25}
    fields |= _TINY_DRAWS | privacy
    summed = fields["mode"] in ("distributed", "central")
    config = RunConfig(
        data=DataConfig(dataset="synthetic", sites=4),
        model=_TINY_MODEL,
        privacy=PrivacyConfig(**fields),
        federation=FederationConfig(rounds=2, local_lr=0.1, local_steps=1 if summed else 3),
    )
    dataset = synthetic_dataset(users=TINY_USERS, items=TINY_ITEMS)
    return ProbeCase(config, dataset.catalogue)


def on_tiny_model(config: RunConfig, *, sites: int, folder: str) -> RunConfig:
    """The run's privacy and federation on the smallest model, over `sites` made-up sites."""
    return changed(config, federation={"sites_per_round": 0, "min_sites": 1}).model_copy(
        update={
            "data": DataConfig(dataset="synthetic", sites=sites, sites_folder=folder),
            "model": _TINY_MODEL,
        }
    )
