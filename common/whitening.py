"""Whitening of item text vectors: public constants of the catalogue under the base BERT."""

from __future__ import annotations

import torch
from torch import nn

SHRINKAGE = 0.02
SIMILARITY_SHRINKAGE = 0.5  # chosen on non-private validation of MovieLens-100K


class Whitening(nn.Module):
    """x → (x − mean) @ matrix, strongest principal direction first; nothing in it is trained.

    Attributes:
        mean: ``[d]``.
        matrix: ``[d, d]``; column j scales principal direction j by 1/√(S_j + 0.02·S_1).
        softening: ``[d]``; whitened vectors times this are whitened with shrinkage 0.5, in
            which cosines order texts best.
    """

    mean: torch.Tensor
    matrix: torch.Tensor
    softening: torch.Tensor

    def __init__(self, mean: torch.Tensor, matrix: torch.Tensor, softening: torch.Tensor):
        """Keeps the constants as buffers, which move with the model."""
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("softening", softening, persistent=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Whitens ``[..., d]`` vectors."""
        return (vectors - self.mean) @ self.matrix


def fit_whitening(table: torch.Tensor) -> Whitening:
    """Fits PCA whitening with shrinkage on the base vectors ``[V, d]`` of the catalogue.

    It is fitted on the CPU in float64, wherever the vectors are.
    """
    vectors = table.cpu().double()
    mean = vectors.mean(0)
    centred = vectors - mean
    values, directions = torch.linalg.eigh(centred.T @ centred / len(vectors))
    values, directions = values.flip(0).clamp(min=0), directions.flip(1)
    # A sign convention makes the basis the same on every machine.
    signs = torch.sign(directions.gather(0, directions.abs().argmax(0, keepdim=True)))
    top = values[0].clamp(min=1e-12)
    scale = torch.rsqrt(values + SHRINKAGE * top)
    softening = torch.rsqrt(values + SIMILARITY_SHRINKAGE * top) / scale
    return Whitening(mean.float(), (directions * signs * scale).float(), softening.float())
