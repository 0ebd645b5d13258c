"""What a cold-start figure stands beside: popularity, TF-IDF, and the frozen BERT's cosine.

TF-IDF and cosine are given what helps them most: titles with their genres, fitted on all
texts, new ones among them, and a history whose last items count more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.base_weights import load_bert, load_tokenizer, resolve_base_weights
from common.config import RunConfig
from common.frozen_states import base_vectors
from common.interactions import Catalogue
from common.tfidf import TextWords, recency
from simulations.baselines import TextFloor, text_floor_scorer
from simulations.evaluation.full_ranking import Scorer

EVENLY: tuple[float, ...] = (1e6,)
RECENT = TextFloor().half_lives
_TIE = 1e-3  # below one interaction

IntArray = NDArray[np.int64]


def popularity_with_ties(counts: IntArray, seed: int) -> Scorer:
    """By count; equal counts in a seeded random order.

    New items have no count: ranked worst by a tie, this row would say nothing at all.

    Args:
        counts: int64 ``[V]``.
        seed: of the order of equal counts.
    """
    shuffled = np.random.default_rng([seed, 0x706F70]).random(len(counts)) * _TIE
    scores = (counts + shuffled).astype(np.float32)

    def score(histories: Sequence[IntArray]) -> NDArray[np.float32]:
        return np.tile(scores, (len(histories), 1))

    return score


def tfidf_scorer(catalogue: Catalogue, half_lives: tuple[float, ...]) -> Scorer:
    """Cosine of TF-IDF vectors of title and genres, to the history's weighted mean.

    Args:
        catalogue: items with texts; genres are appended, which does no harm where the text
            has them already.
        half_lives: recency profiles, in items; they are averaged.
    """
    vectors = TextWords.of(catalogue.texts, catalogue.genres).vectors
    return partial(_similar, vectors, half_lives)


def frozen_vectors(config: RunConfig, catalogue: Catalogue) -> NDArray[np.float32]:
    """Float32 ``[V, d]``: what the base model makes of the texts, without whitening."""
    weights = resolve_base_weights(config.model.weights)
    bert, tokenizer = load_bert(weights), load_tokenizer(weights)
    found = base_vectors(bert, tokenizer, catalogue.texts, config.model.max_tokens)
    vectors: NDArray[np.float32] = found.numpy()
    return vectors


def frozen_scorer(vectors: NDArray[np.float32], half_lives: tuple[float, ...]) -> Scorer:
    """Cosine of the frozen BERT's vectors, centred, to the history's weighted mean."""
    nothing = np.zeros(len(vectors))
    return text_floor_scorer(vectors, nothing, 0.0, TextFloor(1.0, half_lives))


def _similar(
    vectors: csr_matrix, half_lives: tuple[float, ...], histories: Sequence[IntArray]
) -> NDArray[np.float32]:
    weights = np.zeros((len(histories), vectors.shape[0]), dtype=np.float32)
    for row, history in enumerate(histories):
        if len(history):
            np.add.at(weights[row], history, recency(len(history), half_lives))
    profiles = csr_matrix(weights) @ vectors
    scores: NDArray[np.float32] = (profiles @ vectors.T).toarray().astype(np.float32)
    return scores
