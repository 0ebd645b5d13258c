"""Which words of an item's text moved its score: the score, less the score without the word.

As `reasons`, this is occlusion, and exact: the text without the word goes through the tower that
the item's own text went through. What the score has beside the text (code, count, item-to-item)
is the same with and without a word, so it drops out of the difference. It reads the item's public
text, the user's own history and the adapter.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch

from common.base_weights import load_tokenizer, resolve_base_weights
from common.bilinear_head import ItemRows
from common.errors import RequestFault
from common.item_index import ItemIndex
from common.new_items import NewItemRule, rule_of
from common.recommender import Recommender
from common.requests import Requests
from common.student.encoding import TextEncoder
from common.student.shrinking import merged_bert

MOST_WORDS = 40
"""Of a text; those behind are not looked at. BERT cuts long texts at `model.max_tokens`."""
_AT_ONCE = 8
"""Texts between two looks at whether anybody still waits."""
Tower = Literal["adapter", "student"]
WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")


class WordReason(NamedTuple):
    """One word.

    Attributes:
        word: as the text has it.
        effect: the score, less the score without it.
    """

    word: str
    effect: float


class Words(NamedTuple):
    """What the words of a text do.

    Attributes:
        reasons: largest effect first, up or down.
        by: the tower whose vectors they are of: that which gives the item's own.
    """

    reasons: list[WordReason]
    by: Tower = "adapter"


class WordReader:
    """The towers of one adapter, in copies that nothing else changes; one text at a time."""

    def __init__(self, recommender: Recommender, student: TextEncoder | None = None) -> None:
        """Of the adapter that is loaded now.

        Args:
            recommender: may load something else later.
            student: gives new items their vectors; None: the adapter's own tower does.
        """
        model = recommender.config
        tokenizer = load_tokenizer(resolve_base_weights(model.weights))
        self._tower = TextEncoder(merged_bert(recommender), tokenizer, model.max_tokens)
        self._student = student
        self._whitening = copy.deepcopy(recommender.whitening).cpu()
        self._rule = rule_of(model)
        self._busy = threading.Lock()

    @torch.no_grad()
    def read(
        self,
        index: ItemIndex,
        text: str,
        asked: Requests,
        top: int,
        *,
        is_new: bool,
        is_wanted: Callable[[], bool] = lambda: True,
        vector: torch.Tensor | None = None,
    ) -> Words:
        """The words of largest effect; none where the text has a single word.

        Args:
            index: of the same adapter.
            text: of the item.
            asked: one request.
            top: most words.
            is_new: whether the item came after the run, and so is scored by the rule for those.
            is_wanted: whether somebody still waits for the answer; asked between texts.
            vector: of the item beside its text, if it has one.

        Raises:
            RequestFault: another text is being read, or nobody waits any more.
        """
        student = self._student if is_new else None
        by: Tower = "adapter" if student is None else "student"
        places = list(WORD.finditer(text))[:MOST_WORDS]
        if len(places) < 2:
            return Words([], by)
        if not self._busy.acquire(blocking=False):
            # Waiting would hold a worker that lists are asked of.
            raise RequestFault("busy", "words of another request are being read; ask again")
        try:
            texts = [text, *(without(text, [place.span()]) for place in places)]
            vectors = _vectors(student or self._tower, texts, is_wanted)
        finally:
            self._busy.release()
        (query,) = index.queries(asked)
        rule = self._rule if is_new else NewItemRule()
        beside = None if vector is None else vector.expand(len(texts), -1)
        scores = _scores(index, self._whitening(vectors, beside), query, rule).tolist()
        found = [
            WordReason(place.group(), scores[0] - score)
            for place, score in zip(places, scores[1:], strict=True)
        ]
        return Words(sorted(found, key=lambda reason: -abs(reason.effect))[:top], by)


def _vectors(
    tower: TextEncoder, texts: Sequence[str], is_wanted: Callable[[], bool]
) -> torch.Tensor:
    found = []
    for start in range(0, len(texts), _AT_ONCE):
        if not is_wanted():
            raise RequestFault("late", "the deadline passed while words were read")
        found.append(tower.vectors(texts[start : start + _AT_ONCE]))
    return torch.cat(found)


def _scores(
    index: ItemIndex, vectors: torch.Tensor, query: torch.Tensor, rule: NewItemRule
) -> torch.Tensor:
    """``[N]``: the part of the score that is of the text, from whitened ``[N, d]``."""
    head = copy.copy(index.head)
    head._buffers = dict(head._buffers)  # the index never changes: only the copy gets a place
    head.add_items(1)
    nobody = torch.full((1, len(vectors)), len(index))
    side = head.item_side(ItemRows(vectors[None], nobody))
    parts = [side.offered * rule.head, index.terms.directions(vectors) * rule.text]
    scores: torch.Tensor = torch.cat(parts, dim=1) @ query
    return scores + side.bias * (rule.head * index.blend.head)


def words_sentence(found: Words) -> str:
    """One readable sentence, or nothing."""
    if not found.reasons:
        return ""
    told = ", ".join(f"“{reason.word}” ({reason.effect:+.2f})" for reason in found.reasons)
    how = " (by the student, as its score)" if found.by == "student" else ""
    return f"Words that count most in it{how}: {told}."


def without(text: str, words: Sequence[tuple[int, int]]) -> str:
    """`text` less the characters of `words`, given as start and end, with single spaces."""
    for start, end in sorted(words, reverse=True):
        text = text[:start] + text[end:]
    return " ".join(text.split())
