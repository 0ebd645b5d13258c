"""How large a step is, by round and tensor: the same wherever the step is taken."""

from __future__ import annotations

import math

from common.config import RunConfig


def learning_rate(config: RunConfig, server_round: int) -> float:
    """`federation.local_lr` in round `server_round` (from 1) of the schedule.

    ``cosine`` starts at the full rate and ends just above zero (Loshchilov & Hutter 2017).
    """
    federation = config.federation
    if federation.lr_schedule == "constant":
        return federation.local_lr
    progress = min(server_round - 1, federation.rounds) / federation.rounds
    return federation.local_lr * 0.5 * (1 + math.cos(math.pi * progress))


def lora_learning_rate(config: RunConfig, server_round: int) -> float:
    """The same for LoRA's factors."""
    return learning_rate(config, server_round) * config.federation.lora_lr_scale
