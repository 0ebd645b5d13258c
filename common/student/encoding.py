"""From texts to vectors by a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import BertModel, PreTrainedTokenizerBase

from common.frozen_states import base_vectors


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """Texts → vectors, before whitening; a teacher with its LoRA merged is one, too.

    Attributes:
        bert: any depth.
        tokenizer: of the base weights.
        max_tokens: a text is cut after so many.
    """

    bert: BertModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """``[N, d]`` float32 on the CPU: the mean over tokens, without any work on padding."""
        return base_vectors(self.bert, self.tokenizer, texts, self.max_tokens)
