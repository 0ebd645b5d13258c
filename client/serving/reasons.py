"""Why an item is offered: what its score would be, had an item of the history not been there.

That is occlusion, and it is exact: each effect is the difference of two scores. It reads the
user's own history and the adapter, and so no other user's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from client.serving.histories import Asker
from common.interactions import Int64Array
from common.item_index import ItemIndex

_AT_ONCE = 32  # histories; bounds the memory of long ones


class Reason(NamedTuple):
    """One item of the history.

    Attributes:
        item: its place.
        effect: the score, less the score without it.
    """

    item: int
    effect: float


class Explanation(NamedTuple):
    """A score and what moved it.

    Attributes:
        score: of the item.
        without_history: what the item scores for a user who had nothing.
        reasons: largest effect first, up or down.
    """

    score: float
    without_history: float
    reasons: list[Reason]


def explain(index: ItemIndex, asker: Asker, item: int, top: int, moment: int) -> Explanation:
    """Leaves out each item of the history that enters the score, one at a time.

    Args:
        index: the adapter's.
        asker: who asks.
        item: place of the item to explain.
        top: most reasons.
        moment: unix seconds of the request.
    """
    (score,) = index.scores_of_item(asker.at(moment), item)
    nothing = Asker(np.zeros(0, dtype=np.int64), asker.last, asker.attributes)
    (without,) = index.scores_of_item(nothing.at(moment), item)
    length = len(asker.history)
    first = 0 if index.item_to_item is not None else max(0, length - index.max_history)
    places: Int64Array = np.arange(first, length)  # older ones do not enter the score
    reasons = []
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE]
        scores = index.scores_of_item(asker.leaving_out(some, moment), item)
        reasons += [
            Reason(int(asker.history[place]), float(score - other))
            for place, other in zip(some, scores, strict=True)
        ]
    reasons.sort(key=lambda reason: -abs(reason.effect))
    return Explanation(float(score), float(without), reasons[:top])


def sentence(title: str, found: Explanation, titles: Sequence[str]) -> str:
    """One readable sentence.

    Args:
        title: of the item.
        found: what moved its score.
        titles: of the reasons' items.
    """
    told = [f"“{name}” ({r.effect:+.2f})" for name, r in zip(titles, found.reasons, strict=True)]
    up = [text for text, r in zip(told, found.reasons, strict=True) if r.effect > 0]
    down = [text for text, r in zip(told, found.reasons, strict=True) if r.effect < 0]
    start = f"“{title}” scores {found.score:.2f}"
    bare = f"without any history it would score {found.without_history:.2f}"
    if not up and not down:
        return f"{start} by its popularity and its text alone: no history moves it."
    if not up:
        return f"{start}, held down by {_joined(down)} in the history; {bare}."
    less = f", less so because of {_joined(down)}" if down else ""
    return f"{start} because of {_joined(up)} in the history{less}; {bare}."


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
