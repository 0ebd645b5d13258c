"""The second output of objective `click_rating`: a rating, over the towers that score clicks.

rating = low + (high − low) · sigmoid(a · click score + item · text and code + user · profile of
the history + offset). It is bounded by the scale, and so is its error, whatever noise does to
the weights. Item and user features are those of the bilinear head; through the click score the
rating's loss trains the shared towers too. Lists are ranked by the click score alone.
"""

from __future__ import annotations

import torch
from torch import nn

from common.bilinear_head import BilinearHead, ItemRows
from common.config import ModelConfig

_SHARED_START = 0.05  # of a; at 0 the towers would get no gradient of ratings


class RatingOutput(nn.Module):
    """The predicted rating of an item, given its click score."""

    def __init__(self, head: BilinearHead, config: ModelConfig):
        """Starts near the middle of the scale `config.rating_low` to `rating_high`."""
        super().__init__()
        features = head.mix.out_features
        self.low, self.high = config.rating_low, config.rating_high
        self.shared = nn.Linear(1, 1, bias=False)
        self.item = nn.Linear(features, 1, bias=False)
        self.user = nn.Linear(head.mix.in_features, 1, bias=False)
        self.offset = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            for layer in (self.item, self.user, self.offset):
                layer.weight.zero_()
            self.shared.weight.fill_(_SHARED_START)

    def forward(
        self, head: BilinearHead, past: torch.Tensor, items: torch.Tensor, scores: torch.Tensor
    ) -> torch.Tensor:
        """Ratings.

        Args:
            head: The click head, for its scale.
            past: ``[B, m, p]``, its profile of the history at each target.
            items: ``[B, m, f]``, its features of one item for each target, or ``[1, m, f]``.
            scores: ``[B, m]``, click scores of these items.

        Returns:
            ``[B, m]`` within the scale.
        """
        ones = torch.ones(past.shape[0], 1, 1, device=past.device)
        parts = self.item(items * head.scale) + self.user(past * head.scale) + self.offset(ones)
        total: torch.Tensor = parts + self.shared(scores[..., None])
        return self.low + (self.high - self.low) * torch.sigmoid(total.squeeze(-1))

    def errors(self, predicted: torch.Tensor, ratings: torch.Tensor) -> torch.Tensor:
        """Squared errors; a rating outside the scale counts as its nearer end."""
        return (predicted - ratings.clamp(self.low, self.high)).square()


def build_rating_output(head: nn.Module, config: ModelConfig) -> RatingOutput | None:
    """The output that `config.objective` asks for; None where it asks for clicks or rank alone."""
    if config.objective != "click_rating" or not isinstance(head, BilinearHead):
        return None
    output = RatingOutput(head, config)
    return output.requires_grad_(config.item_side != "lora")


def target_rows(offered: ItemRows, columns: torch.Tensor, head: BilinearHead) -> torch.Tensor:
    """The head's features ``[B, m, f]`` of the candidates ``[B|1, N]`` in `columns` ``[B, m]``."""
    features = head.features(offered)
    features = features.expand(len(columns), -1, -1)
    return features.gather(1, columns[..., None].expand(-1, -1, features.shape[-1]))
