"""Task heads: how scores of targets and of other candidates become one loss per unit."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(targets ``[B, m]``, others ``[B, m, N]``, allowed ``[B, N]``, ratings ``[B, m]``) → ``[B, m]``.

`others` holds the scores of all candidates; only those `allowed` may count.
"""


def ranking(
    targets: torch.Tensor, others: torch.Tensor, allowed: torch.Tensor, ratings: torch.Tensor
) -> torch.Tensor:
    """Softmax cross-entropy of each target against the allowed candidates."""
    masked = others.masked_fill(~allowed[:, None, :], float("-inf"))
    total = torch.logsumexp(torch.cat([targets[..., None], masked], dim=-1), dim=-1)
    return total - targets


def click(
    targets: torch.Tensor, others: torch.Tensor, allowed: torch.Tensor, ratings: torch.Tensor
) -> torch.Tensor:
    """Binary cross-entropy: the target is a click, the allowed candidates are none (mean)."""
    weight = allowed[:, None, :].to(others.dtype)
    negatives = (F.softplus(others) * weight).sum(-1) / weight.sum(-1).clamp(min=1)
    return F.softplus(-targets) + negatives


def rating(
    targets: torch.Tensor, others: torch.Tensor, allowed: torch.Tensor, ratings: torch.Tensor
) -> torch.Tensor:
    """Squared error of each target's score against its rating."""
    return (targets - ratings).square()


OBJECTIVES: dict[str, Objective] = {
    "ranking": ranking,
    "click": click,
    "rating": rating,
    "click_rating": click,  # beside it, the recommender adds the error of its rating
}
