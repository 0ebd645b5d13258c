"""Whitening of item text vectors: public constants of the catalogue under the base BERT."""

from __future__ import annotations

import torch
from torch import nn

SHRINKAGE = 0.02
SIMILARITY_SHRINKAGE = 0.5  # chosen on non-private validation of MovieLens-100K


class Whitening(nn.Module):
    """x → (x − mean) @ matrix, strongest principal direction first; nothing in it is trained.

    Where items have vectors of w numbers beside their texts, x is a text's vector followed by
    `scale` times the item's; the d strongest of the d + w directions are kept, so that what
    comes out is as wide as without.

    Attributes:
        mean: ``[d]``, or ``[d + w]``.
        matrix: ``[d, d]``, or ``[d + w, d]``; column j scales principal direction j by
            1/√(S_j + 0.02·S_1).
        softening: ``[d]``; whitened vectors times this are whitened with shrinkage 0.5, in
            which cosines order texts best.
        scale: ``[]``, of item vectors; 1 without any.
    """

    mean: torch.Tensor
    matrix: torch.Tensor
    softening: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        mean: torch.Tensor,
        matrix: torch.Tensor,
        softening: torch.Tensor,
        scale: float = 1.0,
    ):
        """Keeps the constants as buffers, which move with the model."""
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("softening", softening, persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def forward(self, vectors: torch.Tensor, beside: torch.Tensor | None = None) -> torch.Tensor:
        """Whitens ``[..., d]`` vectors of texts.

        Args:
            vectors: of texts.
            beside: ``[..., w]`` vectors of their items; None: the catalogue's mean, which says
                nothing of an item.
        """
        width = vectors.shape[-1]
        if width == len(self.mean):
            return (vectors - self.mean) @ self.matrix
        out = (vectors - self.mean[:width]) @ self.matrix[:width]
        if beside is not None:
            out = out + (beside * self.scale - self.mean[width:]) @ self.matrix[width:]
        return out


def fit_whitening(
    table: torch.Tensor, beside: torch.Tensor | None = None, weight: float = 0.0
) -> Whitening:
    """Fits PCA whitening with shrinkage on the base vectors ``[V, d]`` of the catalogue.

    It is fitted on the CPU in float64, wherever the vectors are.

    Args:
        table: Base vectors of the texts.
        beside: ``[V, w]`` vectors of the items, where the item tower reads some.
        weight: Spread of these, as a multiple of the texts'.
    """
    vectors, scale, width = table.cpu().double(), 1.0, table.shape[1]
    if beside is not None:
        other = beside.cpu().double()
        scale = float(torch.tensor(weight * _spread(vectors) / _spread(other)).float())
        vectors = torch.cat([vectors, other * scale], dim=1)
    mean = vectors.mean(0)
    centred = vectors - mean
    values, directions = torch.linalg.eigh(centred.T @ centred / len(vectors))
    values, directions = values.flip(0).clamp(min=0), directions.flip(1)
    # A sign convention makes the basis the same on every machine.
    signs = torch.sign(directions.gather(0, directions.abs().argmax(0, keepdim=True)))
    top = values[0].clamp(min=1e-12)
    lengths = torch.rsqrt(values + SHRINKAGE * top)
    softening = torch.rsqrt(values + SIMILARITY_SHRINKAGE * top) / lengths
    matrix = (directions * signs * lengths).float()[:, :width].contiguous()
    return Whitening(mean.float(), matrix, softening.float()[:width].contiguous(), scale)


def _spread(vectors: torch.Tensor) -> float:
    """Root mean square distance from the mean."""
    return float((vectors - vectors.mean(0)).square().sum(1).mean().sqrt().clamp(min=1e-12))
