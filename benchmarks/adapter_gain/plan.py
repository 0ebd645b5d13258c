"""The runs of the study: which part of the model is trained, on what data, at which ε.

A run has first settings, and over them those of the point that the search on validation chose
for its data set and ε (`CHOSEN`); where none was searched or none was better, the first alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks.adapter_gain.points import FIRST, settings_of
from common.config import RunConfig
from common.config_loading import load_config

DATASETS = ("movielens-100k", "debian-packages")
EPSILONS = (math.inf, 8.0, 3.0, 1.0)
ARMS = ("lora", "head", "both")
COLD_SHARE = 0.1
"""Of the catalogue: for validation, and as many again for test."""

_COMMON = (
    "data.sites=10",
    "data.split=leave_one_out",
    "model.max_tokens=32",
    "model.lora_layers=1",
    "model.lora_rank=4",
    "model.lora_rows=2",
    "model.head=bilinear",
    "privacy.targets_per_unit=10",
    "privacy.negatives_per_unit=100",
    "evaluation.every=0",
    "evaluation.metrics=none",
    "evaluation.companions=",
)
_PLAIN = (
    "privacy.mode=none",
    "federation.units_per_step=16",
    "federation.local_optimizer=adam",
    "federation.rounds=3",
    "federation.local_steps=6",
)
_PRIVATE = ("privacy.mode=central", "privacy.clip_rule=auto_s", "federation.local_lr=1.0")
_SMALL_BUDGET = 2.0
_FEWER_COUNTS = ("privacy.popularity_noise_multiplier=4.51",)
"""Below that ε the default popularity release would cost more than all of it."""
_PLAIN_ARMS = {
    "lora": ("federation.local_lr=0.003", "federation.lora_lr_scale=1.0"),
    "head": ("federation.local_lr=0.003",),
    "both": ("federation.local_lr=0.003", "federation.lora_lr_scale=1.0"),
}
_PRIVATE_ARMS = {
    "lora": ("federation.rounds=3", "federation.lora_lr_scale=1.0"),
    "head": ("federation.rounds=1",),
    "both": ("federation.rounds=1", "federation.lora_lr_scale=0.01"),
}
CHOSEN = {
    ("movielens-100k", math.inf): "both-sides",
    ("movielens-100k", 8.0): "both-sides",
    ("debian-packages", math.inf): "both-sides",
    ("debian-packages", 8.0): "both-sides",
}
"""Of LoRA alone: the marked points of the search's table; elsewhere `FIRST`."""


@dataclass(frozen=True)
class Cell:
    """One run of the study.

    Attributes:
        dataset: of `DATASETS`.
        epsilon: for the whole run; infinite: without privacy.
        arm: of `ARMS`, what is trained (`model.item_side`).
        seed: of the start and the sampler; noise is fresh in every run.
    """

    dataset: str
    epsilon: float
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return f"{self.dataset}-epsilon-{self.epsilon:g}-{self.arm}-seed-{self.seed}"

    def config(self, extra: Iterable[str] = (), point: str | None = None) -> RunConfig:
        """The run's whole configuration.

        Args:
            extra: settings over all others.
            point: of the search; None: the chosen one.

        Raises:
            ConfigError: an extra setting is wrong.
        """
        private = not math.isinf(self.epsilon)
        mode = (*_PRIVATE, f"privacy.target_epsilon={self.epsilon:g}") if private else _PLAIN
        own = (_PRIVATE_ARMS if private else _PLAIN_ARMS)[self.arm]
        if self.epsilon < _SMALL_BUDGET:
            own += _FEWER_COUNTS
        if point is None:
            is_searched = self.arm == "lora"
            point = CHOSEN.get((self.dataset, self.epsilon), FIRST) if is_searched else FIRST
        own += settings_of(point, self.epsilon)
        named = (
            f"data.dataset={self.dataset}",
            f"model.item_side={self.arm}",
            f"federation.seed={self.seed}",
        )
        return load_config(overrides=[*_COMMON, *mode, *own, *named, *extra])


def cells(
    datasets: Iterable[str], epsilons: Iterable[float], arms: Iterable[str], seeds: int
) -> Iterator[Cell]:
    """Every run, the first seed of all before the second of any."""
    for seed in range(seeds):
        for dataset in datasets:
            for epsilon in epsilons:
                for arm in arms:
                    yield Cell(dataset, epsilon, arm, seed)
