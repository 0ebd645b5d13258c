"""The real model of the private step's tests: BERT with LoRA and a small head."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertModel

from client.private_step import PrivateStep
from common.base_weights import MINILM, load_bert, resolve_base_weights
from common.randomness import RandomSource, seeded_source

WIDTH = 384


@dataclass(frozen=True)
class TextUnit:
    """One user: several texts, and the score that each should get."""

    tokens: torch.Tensor  # [N, T] int64
    mask: torch.Tensor  # [N, T] int64
    wanted: torch.Tensor  # [N] float32


class TextScorer(nn.Module):
    """Uses the head twice per forward and the scale once, as towers with shared parts do."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert
        self.head = nn.Linear(WIDTH, 8)
        self.scale = nn.Linear(1, 1, bias=False)

    def unit_losses(self, units: Sequence[TextUnit]) -> torch.Tensor:
        tokens = torch.cat([unit.tokens for unit in units])  # [B·N, T]
        mask = torch.cat([unit.mask for unit in units])
        wanted = torch.stack([unit.wanted for unit in units])  # [B, N]
        hidden = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        weight = mask[..., None].float()
        texts = (hidden * weight).sum(1) / weight.sum(1)  # [B·N, d]
        texts = texts.view(len(units), -1, WIDTH)
        users = self.head(texts.mean(dim=1))  # [B, 8]
        items = self.head(texts)  # [B, N, 8]
        scores = torch.einsum("bk,bnk->bn", users, items)
        return (self.scale(scores[..., None]).squeeze(-1) - wanted).square().mean(dim=1)


@pytest.fixture(scope="session")
def base_bert() -> BertModel:
    torch.set_num_threads(1)
    return load_bert(resolve_base_weights(MINILM))


@pytest.fixture
def text_scorer(base_bert: BertModel) -> TextScorer:
    """all-MiniLM-L6-v2 with LoRA on its last layer, both factors trained and non-zero."""
    config = LoraConfig(
        r=4, lora_alpha=4, target_modules=["query", "value"], layers_to_transform=[5]
    )
    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 by an old name; that is not ours to mend.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        adapted = get_peft_model(copy.deepcopy(base_bert), config)
    torch.manual_seed(0)
    model = TextScorer(adapted).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture
def make_text_units() -> Callable[..., list[TextUnit]]:
    def make(count: int, texts: int = 3, seed: int = 0) -> list[TextUnit]:
        generator = torch.Generator().manual_seed(seed)
        units = []
        for _ in range(count):
            tokens = torch.randint(1000, 20_000, (texts, 7), generator=generator)
            lengths = torch.randint(2, 8, (texts, 1), generator=generator)
            mask = (torch.arange(7) < lengths).long()
            wanted = 3 * torch.randn(texts, generator=generator)
            units.append(TextUnit(tokens * mask, mask, wanted))
        return units

    return make


class Seen(dict[str, list[dict[str, torch.Tensor]]]):
    """Collects what private steps show to an observer."""

    def __call__(self, stage: str, tensors: dict[str, torch.Tensor]) -> None:
        self.setdefault(stage, []).append(tensors)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def private_step() -> Callable[..., PrivateStep]:
    """Makes a private step over SGD, seeded unless given a source."""

    def make(
        model: nn.Module,
        *,
        sigma: float = 1.0,
        bound: float = 1.0,
        expected_units: float = 4.0,
        source: RandomSource | None = None,
        lr: float = 1.0,
        **options: Any,
    ) -> PrivateStep:
        trainable = [p for p in model.parameters() if p.requires_grad]
        return PrivateStep(
            model,
            torch.optim.SGD(trainable, lr=lr),
            noise_multiplier=sigma,
            max_grad_norm=bound,
            expected_units=expected_units,
            source=source or seeded_source(0, "noise"),
            **options,
        )

    return make


@pytest.fixture
def clipped_sum(private_step: Callable[..., PrivateStep]) -> Callable[..., dict[str, torch.Tensor]]:
    """Takes the clipped sum of one step that leaves the model as it is."""

    def take(
        model: nn.Module, units: Sequence[Any], losses: Callable[..., torch.Tensor], **options: Any
    ) -> dict[str, torch.Tensor]:
        seen = Seen()
        with private_step(model, lr=0.0, observe=seen, **options) as step:
            step.step(units, losses)
        (tensors,) = seen["clipped_sum"]
        return tensors

    return take
