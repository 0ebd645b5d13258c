"""A peer's local training, with Opacus' `PrivacyEngine` the usual way or as a plain loop.

Opacus takes the first axis of an activation for the examples, but an example is 25 rows of
BERT's batch. As its documentation advises for layers with a layout of their own, a grad sampler
is registered: it deals the rows out to their examples, so that the clipped thing is an example.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from opacus import PrivacyEngine
from opacus.grad_sample import register_grad_sampler
from torch import nn

from benchmarks.engine.peer_model import SiteExamples, TwoTower, loss_of
from benchmarks.engine.workloads import BATCH, CLIP, LEARNING_RATE, ROWS, SIGMA


def linear_by_example(
    layer: nn.Linear, activations: list[torch.Tensor], backprops: torch.Tensor
) -> dict[nn.Parameter, torch.Tensor]:
    """Gradient of the weight per example ``[B, p, d]`` from rows ``[B·25, T, ·]``."""
    (inputs,) = activations
    examples = len(inputs) // ROWS
    inputs = inputs.reshape(examples, -1, inputs.shape[-1])
    backprops = backprops.reshape(examples, -1, backprops.shape[-1])
    return {layer.weight: torch.bmm(backprops.transpose(1, 2), inputs)}


@dataclass
class Trained:
    """Examples seen, and (examples, seconds) of each step."""

    examples: int = 0
    steps: list[tuple[int, float]] = field(default_factory=list)


def train_private(
    model: TwoTower, dataset: SiteExamples, steps: int, device: str, batch: int = BATCH
) -> Trained:
    """`steps` Poisson-sampled steps of DP-SGD on the model, in place."""
    register_grad_sampler(nn.Linear)(linear_by_example)  # for the whole process
    loader = torch.utils.data.DataLoader(dataset, batch_size=min(batch, len(dataset)))
    optimizer = torch.optim.SGD(_trainable(model), lr=LEARNING_RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        private, optimizer, loader = PrivacyEngine().make_private(
            module=model,
            optimizer=optimizer,
            data_loader=loader,
            noise_multiplier=SIGMA,
            max_grad_norm=CLIP,
        )
        trained = _run(private, optimizer, loader, steps, device)
        private.to_standard_module()
    return trained


def train_plain(
    model: TwoTower, dataset: SiteExamples, steps: int, device: str, batch: int = BATCH
) -> Trained:
    """`steps` ordinary steps of SGD."""
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch, shuffle=True)
    optimizer = torch.optim.SGD(_trainable(model), lr=LEARNING_RATE)
    return _run(model, optimizer, loader, steps, device)


def _run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: torch.utils.data.DataLoader,  # type: ignore[type-arg]
    steps: int,
    device: str,
) -> Trained:
    trained = Trained()
    batches = _endless(loader)
    for _ in range(steps):
        started = time.monotonic()
        ids, mask = next(batches)
        optimizer.zero_grad()
        if len(ids):
            loss_of(model(ids.to(device), mask.to(device))).backward()
            optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize(device)
        trained.examples += len(ids)
        trained.steps.append((len(ids), time.monotonic() - started))
    return trained


def _endless(
    loader: torch.utils.data.DataLoader,  # type: ignore[type-arg]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
