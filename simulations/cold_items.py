"""Cold items: items that come after training and are known by their text alone.

A seeded draw takes two disjoint sets of items out of the data *and* the catalogue of training,
so that they are neither targets nor negatives: settings are chosen on one set, the other is
looked at once. Every interaction with a cold item is an event: the item is to be ranked for
its user, whose history is what the user did before, without cold items. A figure is a mean
over items of the mean over an item's events, and its interval is over items: what varies is
which new items come, and users tell nothing about that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import DataError
from common.holdout import ItemSequence, UserSplit, hold_out
from common.interactions import Catalogue, Dataset, Interactions, Users
from simulations.evaluation.full_ranking import Scorer, Scores, evaluate_scorer

LEAST_HISTORY = 3  # warm items before an event
MOST_EVENTS = 20  # of one item; the first by a seeded hash

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ColdItems:
    """Two disjoint sets of catalogue indices, sorted.

    Attributes:
        validation: int64[v], to choose settings on.
        test: int64[t], to look at once.
    """

    validation: IntArray
    test: IntArray

    @property
    def all(self) -> IntArray:
        """Both sets, int64[v + t]."""
        return np.union1d(self.validation, self.test)


@dataclass(frozen=True, eq=False)
class ColdMetrics:
    """Each item's mean over its events; float64[I] each, aligned with `items`.

    Attributes:
        items: int64[I], the cold items with an event.
        hr_10: HR@10.
        ndcg_10: NDCG@10.
        events: E, over all items.
    """

    items: IntArray
    hr_10: NDArray[np.float64]
    ndcg_10: NDArray[np.float64]
    events: int


def draw_cold_items(dataset: Dataset, share: float, seed: int) -> ColdItems:
    """Draw two sets of `share` of the catalogue each, by a seeded hash of the item's id.

    Raises:
        DataError: `share` leaves no cold or no other item.
    """
    size = round(share * len(dataset.catalogue))
    if not 0 < 2 * size < len(dataset.catalogue):
        raise DataError(
            f"a share of cold items of {share} takes 2 × {size} of {len(dataset.catalogue)} items; "
            "use a share above 0 and below 0.5"
        )
    hashes = [_hash(seed, item) for item in dataset.catalogue.item_ids]
    order = np.argsort(np.array(hashes, dtype=np.uint64), kind="stable").astype(np.int64)
    return ColdItems(np.sort(order[:size]), np.sort(order[size : 2 * size]))


def without_items(dataset: Dataset, cold: IntArray, min_interactions: int) -> Dataset:
    """`dataset` as it was before `cold` items came: they are not even in its catalogue.

    Users with fewer than `min_interactions` left are left out.
    """
    old, catalogue = dataset.interactions, dataset.catalogue
    known = known_items(cold, len(catalogue))
    stays = np.isin(old.item, known)
    counts = np.bincount(old.user[stays], minlength=len(old.user_ids))
    users = np.flatnonzero(counts >= min_interactions)
    stays &= np.isin(old.user, users)
    ids = tuple(old.user_ids[user] for user in users)
    return replace(
        dataset,
        catalogue=Catalogue(
            tuple(catalogue.item_ids[item] for item in known),
            tuple(catalogue.texts[item] for item in known),
            tuple(catalogue.genres[item] for item in known),
            None if catalogue.vectors is None else catalogue.vectors.take(known),
        ),
        interactions=Interactions(
            ids,
            np.searchsorted(users, old.user[stays]),
            np.searchsorted(known, old.item[stays]),
            old.rating[stays],
            old.timestamp[stays],
        ),
        users=Users(
            ids,
            {
                name: tuple(values[user] for user in users)
                for name, values in dataset.users.attributes.items()
            },
        ),
    )


def known_items(cold: IntArray, catalogue_size: int) -> IntArray:
    """The items that are not `cold`, sorted: what training's catalogue holds, in its order."""
    return np.setdiff1d(np.arange(catalogue_size), cold)


def cold_events(
    dataset: Dataset, cold: ColdItems, items: IntArray, *, seed: int
) -> list[UserSplit]:
    """The events of `items`, each as a split with the item as its one test target.

    Args:
        dataset: the whole data, with the cold items' interactions.
        cold: items that no history shows.
        items: the cold items whose events are wanted.
        seed: of the order of equal times, and of which `MOST_EVENTS` of an item stay.

    Raises:
        DataError: there is no event.
    """
    splits = hold_out(
        dataset.interactions,
        dataset.catalogue,
        split="leave_one_out",
        seed=seed,
        users=dataset.users,
    )
    is_cold = np.isin(np.arange(len(dataset.catalogue)), cold.all)
    found: dict[int, list[tuple[int, UserSplit]]] = {int(item): [] for item in items}
    for split in splits:
        whole = _joined([split.train, split.validation, split.test])
        for place in np.flatnonzero(np.isin(whole.items, items)):
            warm = np.flatnonzero(~is_cold[whole.items[:place]])
            if len(warm) < LEAST_HISTORY:
                continue
            item = int(whole.items[place])
            event = UserSplit(
                split.user_id,
                _part(whole, warm),
                _part(whole, []),
                _part(whole, [int(place)]),
                attributes=split.attributes,
            )
            found[item].append((_hash(seed, f"{split.user_id} {item}"), event))
    events = [
        event
        for item in sorted(found)
        for _, event in sorted(found[item], key=lambda each: each[0])[:MOST_EVENTS]
    ]
    if not events:
        raise DataError(
            f"none of {len(items)} cold items follows {LEAST_HISTORY} other items in a history; "
            "raise the share of cold items, or use more data"
        )
    return events


def evaluate_cold(scorer: Scorer, events: Sequence[UserSplit]) -> ColdMetrics:
    """Rank each event's item, and average over the events of each item."""
    judged = evaluate_scorer(scorer, events, "test")
    targets = np.array([event.test.items[0] for event in events])
    items, place = np.unique(targets, return_inverse=True)
    times = np.bincount(place)
    return ColdMetrics(
        items=items,
        hr_10=np.bincount(place, judged.hr_10) / times,
        ndcg_10=np.bincount(place, judged.ndcg_10) / times,
        events=len(events),
    )


def among(scorer: Scorer, items: IntArray) -> Scorer:
    """`scorer` with all but `items` left out."""

    def score(histories: Sequence[IntArray]) -> Scores:
        scores = _table(scorer(histories))
        left = np.full_like(scores, -np.inf)
        left[:, items] = scores[:, items]
        return left

    return score


def _table(scores: Scores) -> NDArray[np.float32]:
    return scores.cpu().numpy() if isinstance(scores, torch.Tensor) else scores


def _joined(parts: Sequence[ItemSequence]) -> ItemSequence:
    return ItemSequence(
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.ratings for part in parts]),
        np.concatenate([part.timestamps for part in parts]),
    )


def _part(whole: ItemSequence, places: Sequence[int] | IntArray) -> ItemSequence:
    at = np.asarray(places, dtype=np.int64)
    return ItemSequence(whole.items[at], whole.ratings[at], whole.timestamps[at])


def _hash(seed: int, name: str) -> int:
    text = json.dumps([seed, "cold", name])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
