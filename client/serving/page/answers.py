"""What the page says: a list beside the same list under a policy, and reasons, as JSON."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from client.serving.histories import Asker
from client.serving.list_policy import Greedy, ItemFacts, ListPolicy
from client.serving.recommending import (
    Answer,
    Offer,
    SiteRecommender,
    Visitor,
    Who,
    candidates_of,
)
from client.serving.reranking import WAYS, Capped, check_facts, list_policy
from client.serving.served import Served
from client.serving.words import words_sentence
from common.diverse_lists import divergence, wanted_shares
from common.errors import RequestFault

MOST_SHOWN = 50
MOST_TITLES = 12
MOST_REASONS = 2
MOST_WORDS = 3
HISTORY_SHOWN = 10
CAP_USERS = 200
"""A cap is shown as it is after so many of the site's users got their lists."""
Id = Annotated[str, Field(min_length=1, max_length=200)]


class Asked(BaseModel):
    """Who asks: a user, or somebody new with what they had."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user: str | None = Field(None, max_length=200)
    items: list[Id] = Field(default=[], max_length=500)
    attributes: dict[Id, Annotated[str, Field(max_length=200)]] = {}

    @property
    def who(self) -> Who:
        """As the recommender takes it."""
        if self.user is None:
            return Visitor(tuple(self.items), self.attributes)
        if not self.user.strip():
            raise RequestFault("invalid", "Type a user's id, or choose titles instead.")
        return self.user.strip()


class AskedList(Asked):
    """A list, and the policy to hold it against."""

    k: int = Field(10, ge=1, le=MOST_SHOWN)
    policy: str = Field("greedy", max_length=40)


class AskedReasons(Asked):
    """Reasons for items of a list."""

    item_ids: list[Id] = Field(max_length=2 * MOST_SHOWN)


class AskedWords(Asked):
    """Words of one item's text."""

    item_id: Id


class PageAnswers:
    """Answers from a recommender; `recommender` may become another one."""

    def __init__(self, recommender: SiteRecommender) -> None:
        """Of a recommender that was loaded with facts."""
        self.recommender = recommender
        self._catching_up = threading.Lock()

    def site(self) -> dict[str, Any]:
        """What is served."""
        served = self.recommender.served
        has_genres = served.facts is not None and bool(served.facts.genres.any())
        attributes = sorted(served.histories.attributes) if served.index.encoder.buckets else []
        return {
            "site": served.site,
            "adapter": served.adapter,
            "run": served.manifest.run,
            "items": len(served.items),
            "ways": [way for way in WAYS if has_genres or way != "calibrated"],
            "attributes": attributes,
            "most": min(MOST_SHOWN, len(served.items)),
        }

    def titles(self, typed: str) -> list[dict[str, str]]:
        """Items whose titles have `typed` in them, those that begin with it first."""
        wanted, served = " ".join(typed.casefold().split()), self.recommender.served
        if not wanted:
            return []
        found: tuple[list[int], list[int]] = ([], [])
        for place, title in enumerate(_folded(served)):
            if wanted in title:
                found[not title.startswith(wanted)].append(place)
        places = (found[0] + found[1])[:MOST_TITLES]
        items = served.items
        return [{"item_id": items.item_ids[place], "title": items.title(place)} for place in places]

    def lists(self, asked: AskedList) -> dict[str, Any]:
        """The greedy list, and the one under the policy, with what each is like."""
        recommender, who = self.recommender, asked.who
        with self._catching_up:
            recommender.catch_up()
        served = recommender.served
        try:
            asker = recommender.asker(who)
        except RequestFault as fault:
            if fault.reason == "unknown" and asked.user is not None:
                line = f"User “{asked.user}” is not known at this site. Check the id, or "
                line += "choose titles instead."
                raise RequestFault("unknown", line) from fault
            raise
        policy = list_policy(asked.policy)
        check_facts(policy, served.facts)
        if isinstance(policy, Capped):
            policy = _used_cap(asked.policy, recommender, asked.k)
        greedy = recommender.recommend(who, asked.k, policy=Greedy())
        chosen = recommender.recommend(who, asked.k, policy=policy)
        recent = asker.history[::-1][:HISTORY_SHOWN]
        return {
            "history": {
                "length": len(asker.history),
                "recent": [served.items.title(int(place)) for place in recent],
            },
            "greedy": _shown(served, asker, greedy),
            "chosen": _shown(served, asker, chosen),
        }

    def reasons(self, asked: AskedReasons) -> dict[str, str]:
        """A sentence for each item, without the title that it begins with."""
        who, told = asked.who, {}
        for item_id in asked.item_ids:
            found = self.recommender.explain(who, item_id, MOST_REASONS)
            rest = found.sentence.removeprefix(f"“{found.title}” ")
            told[item_id] = rest[:1].upper() + rest[1:]
        return told

    def words(self, asked: AskedWords) -> str:
        """A sentence on the words of an item's text."""
        found = self.recommender.words(asked.who, asked.item_id, MOST_WORDS)
        return words_sentence(found) or "Its text has no words to leave out."


def _shown(served: Served, asker: Asker, answer: Answer) -> dict[str, Any]:
    places = [served.items.places[offer.item_id] for offer in answer.offers]
    return {
        "policy": answer.policy,
        "items": [_offer(served, offer) for offer in answer.offers],
        **_likeness(served.facts, asker, places, answer.offers)._asdict(),
    }


def _offer(served: Served, offer: Offer) -> dict[str, Any]:
    place = served.items.places[offer.item_id]
    return {
        "item_id": offer.item_id,
        "title": offer.title,
        "score": round(offer.score, 4),
        "genres": list(served.items.genres(place)),
    }


class Likeness(NamedTuple):
    """What a list is like.

    Attributes:
        score: mean of the scores; None of an empty list.
        distance: mean cosine distance of two items' texts; None with fewer than two.
        genres_missed: divergence of its genres from the history's; None where none are known.
    """

    score: float | None
    distance: float | None
    genres_missed: float | None


def _likeness(
    facts: ItemFacts | None, asker: Asker, places: Sequence[int], offers: Sequence[Offer]
) -> Likeness:
    if facts is None or not places:
        return Likeness(None, None, None)
    score = float(np.mean([offer.score for offer in offers]))
    vectors, pairs = facts.vectors[places], len(places) * (len(places) - 1)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    cosine = unit @ unit.T
    distance = 1 - float(cosine.sum() - np.trace(cosine)) / pairs if pairs else None
    wanted, missed = wanted_shares(asker.history, facts.genres), None
    if wanted.any():
        missed = float(divergence(wanted, facts.genres[places].mean(axis=0)))
    return Likeness(score, distance, missed)


@lru_cache(maxsize=2)
def _folded(served: Served) -> tuple[str, ...]:
    return tuple(
        " ".join(served.items.title(place).casefold().split()) for place in range(len(served.items))
    )


def _used_cap(setting: str, recommender: SiteRecommender, k: int) -> ListPolicy:
    """A cap after `CAP_USERS` users of the site, spread over its tables, got their lists."""
    served = recommender.served
    users = list(served.histories.users)
    spread = users[:: max(1, len(users) // CAP_USERS)][:CAP_USERS]
    policy = list_policy(setting, window=max(len(spread), 1))
    for user in spread:
        asker = served.asker(user)
        if asker is not None:
            policy.choose(candidates_of(served, asker, served.loaded_at, k), k)
    return policy
