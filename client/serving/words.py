"""Which words of an item's text moved its score: the score, less the score without the word.

As `reasons`, this is occlusion, and exact: the text without the word goes through the adapted
BERT like any new item's. What the score has beside the text (code, count, item-to-item) is the
same with and without a word, so it drops out of the difference. It reads the item's public
text, the user's own history and the adapter.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from common.blend import PLAIN, Blend
from common.item_index import build_index
from common.new_items import NewItemRule, new_item_vectors, rule_of
from common.recommender import Recommender
from common.requests import Requests

MOST_WORDS = 40
"""Of a text; those behind are not looked at. BERT cuts long texts at `model.max_tokens`."""
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")


class WordReason(NamedTuple):
    """One word.

    Attributes:
        word: as the text has it.
        effect: the score, less the score without it.
    """

    word: str
    effect: float


@torch.no_grad()
def word_reasons(
    recommender: Recommender,
    text: str,
    asked: Requests,
    top: int,
    *,
    is_new: bool = False,
    blend: Blend = PLAIN,
    vector: torch.Tensor | None = None,
) -> list[WordReason]:
    """The words of largest effect, up or down; none where the text has a single word.

    Args:
        recommender: with the adapter loaded that the lists are from; no other thread may use it.
        text: of the item.
        asked: one request.
        top: most words.
        is_new: whether the item came after the run, and so is scored by the rule for those.
        blend: of the lists.
        vector: of the item beside its text, if it has one.
    """
    places = list(_WORD.finditer(text))[:MOST_WORDS]
    if len(places) < 2:
        return []
    texts = [text, *(_without(text, place) for place in places)]
    beside = None
    if recommender.beside is not None and vector is not None:
        beside = vector.to(recommender.device).expand(len(texts), -1)
    vectors = new_item_vectors(recommender, texts, keep=False, beside=beside)
    rule = rule_of(recommender.config) if is_new else NewItemRule()
    index = build_index(recommender, vectors, rule, blend)
    (query,) = index.queries(asked)
    first = len(index) - len(texts)
    scores = (index.vectors[first:] @ query + index.bias[first:]).tolist()
    found = [
        WordReason(place.group(), scores[0] - score)
        for place, score in zip(places, scores[1:], strict=True)
    ]
    return sorted(found, key=lambda reason: -abs(reason.effect))[:top]


def words_sentence(found: list[WordReason]) -> str:
    """One readable sentence, or nothing."""
    told = [f"“{reason.word}” ({reason.effect:+.2f})" for reason in found]
    return f"Words that count most in it: {', '.join(told)}." if told else ""


def _without(text: str, place: re.Match[str]) -> str:
    return " ".join((text[: place.start()] + text[place.end() :]).split())
