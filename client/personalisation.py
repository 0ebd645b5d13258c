"""A site's own user tower: fine-tuned on the site's users after training, never released.

After the federation is over, a site takes the global adapter and trains what reads a user's
history a few steps further on its own users; item tower and item texts stay as they are, so
that items mean the same everywhere. Nothing of it leaves the site: it is charged nothing,
and it makes no promise of its own. Who gets recommendations *from* this model sees outputs
that depend on the site's users without noise; keep them among that site's users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from torch import nn

from client.local_steps import plain_steps
from common.config import RunConfig
from common.privacy_units import Unit
from common.randomness import RandomSource
from common.recommender import Recommender

USER_SIDE = (
    "head.mix.",
    "head.history.",
    "head.residual.",
    "head.context.",
    "head.temperature.",
    "score.",
)
"""Parameters that read the history, or weigh what was read of it (`bilinear`: its matrix)."""


def user_side(recommender: Recommender) -> dict[str, nn.Parameter]:
    """The parameters of a personal tower by name, whether the federation trains them or not."""
    return {n: p for n, p in recommender.named_parameters() if n.startswith(USER_SIDE)}


@contextmanager
def personal_tower(
    recommender: Recommender, units: Sequence[Unit], config: RunConfig, source: RandomSource
) -> Iterator[None]:
    """Gives the recommender this site's own user tower for as long as the context lasts.

    It starts from what is loaded and takes `evaluation.personal_steps` steps of Adam at
    `evaluation.personal_lr` on the site's training items. Afterwards every parameter is as
    it was.

    Args:
        recommender: Holds the global adapter and the run's item prior.
        units: The site's users (`privacy.unit` does not matter here); none: no step is taken.
        config: The run's configuration.
        source: The site's randomness, of batches and negatives.
    """
    named = dict(recommender.named_parameters())
    personal = user_side(recommender)
    trained = {name: parameter.requires_grad for name, parameter in named.items()}
    before = {name: parameter.detach().clone() for name, parameter in personal.items()}
    try:
        for name, parameter in named.items():
            parameter.requires_grad_(name in personal)
        if units:
            _fine_tune(recommender, list(personal.values()), units, config, source)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in personal.items():
                parameter.copy_(before[name])
        for name, parameter in named.items():
            parameter.requires_grad_(trained[name])
            parameter.grad = None


def _fine_tune(
    recommender: Recommender,
    parameters: list[nn.Parameter],
    units: Sequence[Unit],
    config: RunConfig,
    source: RandomSource,
) -> None:
    optimizer = torch.optim.Adam(parameters, lr=config.evaluation.personal_lr)
    recommender.train()
    steps = plain_steps(recommender, units, config, source, with_lora=False)
    for batch in islice(steps, config.evaluation.personal_steps):
        optimizer.zero_grad(set_to_none=True)
        recommender.unit_losses(batch).mean().backward()
        optimizer.step()
    recommender.eval()
