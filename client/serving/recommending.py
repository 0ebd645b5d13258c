"""Answers: lists, reasons, and feedback, whatever brings the questions here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from client.serving.feedback import Event, FeedbackStore
from client.serving.histories import Asker, Taken, extended
from client.serving.list_policy import Asked, Candidates, Greedy, ListPolicy
from client.serving.reasons import Explanation, explain, sentence
from client.serving.served import Served
from client.serving.words import Words
from common.errors import RequestFault

MAX_ID = 200
"""Characters of an id that a client makes up."""
MAX_REASONS = 50
MAX_TIME = 2**40


@dataclass(frozen=True)
class Visitor:
    """Somebody whom the site's tables do not know.

    Attributes:
        item_ids: what they had, oldest first; none: a new user.
        attributes: by name.
    """

    item_ids: Sequence[str] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


Who = str | Visitor
"""A user's own id, or somebody new."""


class Offer(NamedTuple):
    """One place of a list."""

    item_id: str
    title: str
    score: float
    propensity: float


class Answer(NamedTuple):
    """A list.

    Attributes:
        recommendation_id: names it in feedback.
        adapter: which one scored.
        policy: which one chose.
        offers: best first.
    """

    recommendation_id: str
    adapter: str
    policy: str
    offers: list[Offer]


class Reasons(NamedTuple):
    """What moved the score of one item.

    Attributes:
        adapter: which one scored.
        title: of the item.
        found: scores and effects.
        items: id and title of each reason's item.
        sentence: the same for people.
    """

    adapter: str
    title: str
    found: Explanation
    items: list[tuple[str, str]]
    sentence: str


class SiteRecommender:
    """Answers from what is served now. A request that has begun ends on what it began with."""

    def __init__(
        self,
        served: Served,
        feedback: FeedbackStore | None = None,
        policy: ListPolicy | None = None,
    ) -> None:
        """Takes up what was recorded before.

        Args:
            served: what answers first.
            feedback: None: nothing is recorded, and what was recorded is not known.
            policy: None: greedy.
        """
        self._served = served
        self._feedback = feedback
        self._policy = policy or Greedy()
        self._policy.prepare(served)
        self._taken, self._read = Taken(), 0
        self.catch_up()

    @property
    def served(self) -> Served:
        """What answers now."""
        return self._served

    @property
    def policy(self) -> str:
        """Name of the policy."""
        return self._policy.name

    def catch_up(self) -> None:
        """Takes up what was recorded since, by another process."""
        for event in self._feedback.events(self._read) if self._feedback is not None else ():
            self._know(event)
            self._read += 1

    def swap(self, served: Served) -> None:
        """From now on `served` answers."""
        self._policy.prepare(served)
        self._served = served

    def recommend(
        self, who: Who, k: int, moment: int = 0, policy: ListPolicy | None = None
    ) -> Answer:
        """The list of k items for `who`; shorter where fewer are left.

        Args:
            who: who asks.
            k: from 1 to the number of items.
            moment: unix seconds; 0: now.
            policy: instead of the service's own; such a list is only looked at, and not logged.

        Raises:
            RequestFault: k, an id or the moment is wrong, or the user is unknown.
        """
        served = self._served
        if not 1 <= k <= len(served.items):
            raise RequestFault(
                "invalid", f"k must be between 1 and {len(served.items)}, the items, got {k}"
            )
        asker = self._asker(served, who)
        candidates = candidates_of(served, asker, _moment(moment), k)
        name = secrets.token_hex(16)
        key = "" if isinstance(who, Visitor) else served.user_key(who)
        asked = Asked(name, key, served) if policy is None else None
        policy = policy or self._policy
        chosen = policy.choose(candidates, k, asked)
        offers = [
            Offer(
                served.items.item_ids[item], served.items.title(item), float(score), float(chance)
            )
            for item, score, chance in zip(
                candidates.items[chosen.rows],
                candidates.scores[chosen.rows],
                chosen.propensities,
                strict=True,
            )
        ]
        return Answer(name, served.adapter, policy.name, offers)

    def asker(self, who: Who) -> Asker:
        """Who asks, as the score sees them now.

        Raises:
            RequestFault: an id is wrong, or the user or an item is unknown.
        """
        return self._asker(self._served, who)

    def explain(self, who: Who, item_id: str, top: int, moment: int = 0) -> Reasons:
        """Why `who` is offered an item.

        Raises:
            RequestFault: an argument is wrong, or the user or the item is unknown.
        """
        served = self._served
        if not 1 <= top <= MAX_REASONS:
            raise RequestFault("invalid", f"top must be between 1 and {MAX_REASONS}, got {top}")
        item, items = served.items.index_of(item_id), served.items
        found = explain(served.index, self._asker(served, who), item, top, _moment(moment))
        named = [(items.item_ids[r.item], items.title(r.item)) for r in found.reasons]
        told = sentence(items.title(item), found, [title for _, title in named])
        return Reasons(served.adapter, items.title(item), found, named, told)

    def words(
        self,
        who: Who,
        item_id: str,
        top: int,
        moment: int = 0,
        *,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Words:
        """Which words of an item's text move its score for `who`.

        Args:
            who: who asks.
            item_id: of the item.
            top: most words.
            moment: unix seconds; 0: now.
            is_wanted: whether somebody still waits for the answer.

        Raises:
            RequestFault: the user or the item is unknown, words are not told here, or those of
                another request are being read.
        """
        served = self._served
        if served.words is None:
            raise RequestFault("invalid", "words are not told here; start it with --words")
        if not 1 <= top <= MAX_REASONS:
            raise RequestFault("invalid", f"words must be at most {MAX_REASONS}, got {top}")
        item = served.items.index_of(item_id)
        asked = self._asker(served, who).at(_moment(moment))
        is_new = item >= len(served.items.catalogue)
        text, vector = served.items.text(item), served.items.vector(item)
        return served.words.read(
            served.index, text, asked, top, is_new=is_new, is_wanted=is_wanted, vector=vector
        )

    def record(self, event: Event) -> bool:
        """Keeps feedback of a user, by their own id; returns False where it was kept before.

        A user whom the tables do not know yet is known from then on.

        Raises:
            RequestFault: an id is empty, too long or unknown, or the request id was used.
            RunFolderError: the disk refuses.
        """
        if self._feedback is None:
            raise RequestFault("invalid", "feedback is not recorded here; use `fedrec-site serve`")
        for name in ("request_id", "user", "recommendation_id"):
            _check_id(name, getattr(event, name), may_be_empty=name == "recommendation_id")
        served = self._served
        served.items.index_of(event.item_id)
        known = event._replace(user=served.user_key(event.user), at=_moment(event.at))
        is_new = self._feedback.record(known)
        if is_new:
            self._know(known)
        return is_new

    def _know(self, event: Event) -> None:
        if event.kind == "taken":
            self._taken.add(event.user, event.item_id, event.at)

    def _asker(self, served: Served, who: Who) -> Asker:
        places = served.items.places
        if isinstance(who, Visitor):
            history = [served.items.index_of(item_id) for item_id in who.item_ids]
            once = np.array(list(dict.fromkeys(history)), dtype=np.int64)
            _check_attributes(served, who.attributes)
            return served.histories.stranger(once, who.attributes)
        _check_id("user", who)
        key = served.user_key(who)
        asker, taken = served.asker(key), self._taken.of(key)
        if asker is None and not taken:
            raise RequestFault(
                "unknown",
                f"user {who!r} is not known at this site; for somebody new ask with a visitor",
            )
        nobody = np.zeros(0, dtype=np.int64)
        return extended(asker or served.histories.stranger(nobody, {}), taken, places)


def candidates_of(served: Served, asker: Asker, moment: int, k: int) -> Candidates:
    """Items for a list of k that the asker has not had; those of a finite score."""
    items, scores = served.index.best(asker.at(moment), k)
    free = np.isfinite(scores)
    places = np.minimum(np.searchsorted(items, asker.history), len(items) - 1)  # `items` rises
    free[places[items[places] == asker.history]] = False
    return Candidates(items[free], scores[free], asker.history, served.facts)


def _check_attributes(served: Served, given: Mapping[str, str]) -> None:
    """A name that the site's tables lack would be hashed like any other, and mean nothing."""
    known = served.histories.attributes
    wrong = sorted(set(given) - set(known)) if served.index.encoder.buckets else []
    if wrong:
        raise RequestFault(
            "invalid",
            f"attribute {wrong[0][:100]!r} is none of this site's users; give some of "
            f"{', '.join(sorted(known))}",
        )


def _moment(given: int) -> int:
    if not 0 <= given < MAX_TIME:
        raise RequestFault("invalid", f"unix_seconds must be a time, or 0 for now, got {given}")
    return given or int(time.time())


def _check_id(name: str, value: str, *, may_be_empty: bool = False) -> None:
    if len(value) > MAX_ID or not (value or may_be_empty):
        raise RequestFault(
            "invalid", f"{name} must have 1 to {MAX_ID} characters, got {len(value)}"
        )
