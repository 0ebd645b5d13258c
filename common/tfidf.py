"""Similarity of item texts by their words: TF-IDF, which needs nobody's data and no training.

The texts are public, so that this part of a score costs no ε. It is what is left where an
adapter knows little of a catalogue: few interactions, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

HALF_LIVES = (1.0, 5.0, 20.0)
"""Recency profiles of a history, in items; they are averaged."""

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TextWords:
    """TF-IDF vectors of V items.

    Attributes:
        vectors: float32 ``[V, words]``; rows have length 1, or 0 without a known word.
    """

    vectors: csr_matrix

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        genres: Sequence[Sequence[str]],
        known: int | None = None,
    ) -> TextWords:
        """Vectors of texts with their genres, which may be in the text already.

        Args:
            texts: of V items.
            genres: of the same items.
            known: so many from the start say which words there are and how rare each is, so
                that their scores do not depend on what comes after; None: all.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer  # slow, and rarely needed

        whole = [f"{text} {' '.join(of)}" for text, of in zip(texts, genres, strict=True)]
        words = TfidfVectorizer(sublinear_tf=True)
        words.fit(whole[:known])
        return cls(csr_matrix(words.transform(whole), dtype=np.float32))

    def scores(self, history: Int64Array) -> Float32Array:
        """``[V]``: cosine to the history's mean, in which the last items count more.

        Args:
            history: item indices, oldest first; without any, all scores are 0.
        """
        if not len(history):
            return np.zeros(self.vectors.shape[0], dtype=np.float32)
        weights = csr_matrix(recency(len(history), HALF_LIVES).astype(np.float32))
        profile = weights @ self.vectors[history]
        scores: Float32Array = (self.vectors @ profile.T).toarray()[:, 0].astype(np.float32)
        return scores


def recency(length: int, half_lives: Sequence[float]) -> npt.NDArray[np.float64]:
    """``[length]``, oldest first; the weights add up to 1."""
    ages = np.arange(length - 1, -1, -1)
    profiles = np.exp2(-ages[:, None] / np.array(half_lives))  # [n, L]
    weights: npt.NDArray[np.float64] = (profiles / profiles.sum(axis=0)).mean(axis=1)
    return weights
