"""How much goes through the model at once: bounded by memory, never a matter of results."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from common.devices import free_memory_bytes
from common.recommender import Recommender

_CPU_BUDGET = 384 * 2**20
_CPU_PASS = 2048
_GPU_PASS = 65_536
_UNITS_PER_MICROBATCH = 32


@dataclass(frozen=True)
class Limits:
    """Sizes of the parts that a step is computed in.

    Attributes:
        units: units whose heads go forward and backward together.
        tokens_per_pass: tokens that go backward through BERT together.
        encoded_tokens: tokens of distinct texts whose activations are kept at a time.
    """

    units: int
    tokens_per_pass: int
    encoded_tokens: int


def memory_budget(device: torch.device) -> int:
    """Bytes that a step's working memory may take on `device`, from what is free there now.

    On a CPU it is a small part: what does not fit its caches gains nothing by being larger.
    """
    free = free_memory_bytes(device)
    return min(free // 16, _CPU_BUDGET) if device.type == "cpu" else free // 2


def limits_for(recommender: Recommender, budget_bytes: int) -> Limits:
    """Sizes that keep a step's working memory within about `budget_bytes`.

    Half of it is for activations of encoded texts, a quarter for the backward pass through
    BERT (about as much per token as is kept), a quarter for the units' gradients.
    """
    per_token = token_bytes(recommender)
    numbers = sum(p.numel() for p in recommender.parameters() if p.requires_grad)
    # On a CPU larger passes only fall out of its caches.
    widest = _CPU_PASS if recommender.device.type == "cpu" else _GPU_PASS
    return Limits(
        units=_within(budget_bytes // 4 // (4 * 4 * numbers), _UNITS_PER_MICROBATCH),
        tokens_per_pass=_within(budget_bytes // 4 // (2 * per_token), widest),
        encoded_tokens=_within(budget_bytes // 2 // per_token, 2**40),
    )


def token_bytes(recommender: Recommender) -> int:
    """Bytes that the traces of one token take in all adapted layers."""
    tower = recommender.item_tower
    width = int(tower.prefix.states.shape[1])
    kept = 9 * width + 2 * recommender.config.lora_rank + 4
    if recommender.config.adapter == "fedit":
        kept += width
    return kept * tower.prefix.states.element_size() * len(tower.layers)


def _within(size: int, most: int) -> int:
    return max(1, min(size, most))
