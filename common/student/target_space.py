"""What a student is held against: vectors of the teacher, before and after the head."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from common.bilinear_head import ItemRows
from common.recommender import Recommender


class TargetSpace:
    """Text vectors as the score reads them, and how far two sets of them are apart."""

    def __init__(self, recommender: Recommender):
        """Copies of whitening, head and terms; texts have no item codes here."""
        self._whitening = copy.deepcopy(recommender.whitening).cpu()
        self._head = copy.deepcopy(recommender.head).cpu().eval().requires_grad_(False)
        self._terms = copy.deepcopy(recommender.score).cpu().eval().requires_grad_(False)
        self._items = len(recommender.item_prior)
        self._head.add_items(1)

    def loss(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """A number that is zero where both are equal.

        It has the squared error of the whitened vectors and of what the head makes of them,
        each relative to the teacher's size, the cosine of the directions, and the error of the
        similarities within the batch.

        Args:
            student: ``[B, d]`` text vectors, not whitened.
            teacher: ``[B, d]``, the same texts.
        """
        ours, theirs = self._whitening(student), self._whitening(teacher)
        near, there = self._terms.directions(ours), self._terms.directions(theirs)
        loss = _relative(ours, theirs) + (1 - (near * there).sum(-1)).mean()
        loss = loss + F.mse_loss(near @ near.T, there @ there.T) * len(near)
        for one, other in zip(self._sides(ours), self._sides(theirs), strict=True):
            loss = loss + 0.5 * _relative(one, other)
        return loss

    @torch.no_grad()
    def cosines(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """``[N]``, of the directions that the similarity of texts compares."""
        ours = self._terms.directions(self._whitening(student))
        cosines: torch.Tensor = (ours * self._terms.directions(self._whitening(teacher))).sum(-1)
        return cosines

    def _sides(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        items = torch.full((1, len(vectors)), self._items)
        side = self._head.item_side(ItemRows(vectors[None], items))
        return side.shown, side.offered


def _relative(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    return (ours - theirs).square().sum() / theirs.square().sum().clamp(min=1e-12)
