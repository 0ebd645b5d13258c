"""How a site mixes the parts of a score: the head, texts, popularity and item-to-item weights.

A score is a sum of four parts. A site may weigh them by what its own users took, and add a fifth,
the similarity of words (`client/serving/blending.py`); the weights stay there, so that choosing
them costs no ε.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Blend:
    """Factors of a score's parts; as they are by default: the recommender's own score.

    Attributes:
        head: of what the trained head makes of history and item.
        text: of the similarity of an item's text to the recent ones.
        prior: of the popularity that was released once.
        item_to_item: of the released co-occurrence.
        tfidf: of the similarity of words (`common.tfidf`), which only a site adds.
    """

    head: float = 1.0
    text: float = 1.0
    prior: float = 1.0
    item_to_item: float = 1.0
    tfidf: float = 0.0


PLAIN = Blend()
"""The recommender's own score."""
