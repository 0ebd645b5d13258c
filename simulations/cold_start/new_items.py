"""New items as serving scores them, among known ones; and the choice of the rule for it.

The rule is chosen on validation alone: on cold items and users' validation items that the test
does not look at. Lifting new items shows them to people who wanted a known one, so that a rule
may cost known items at most `LARGEST_LOSS` of their NDCG@10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from common.holdout import Stage, UserSplit
from common.item_index import ItemIndex, build_index
from common.metrics import user_metrics
from common.new_items import NewItemRule, new_item_vectors
from common.ranking import worst_ranks
from common.recommender import Recommender
from common.requests import Requests, requests_of
from simulations.cold_start.bench import ColdStartBench

LARGEST_LOSS = 0.05
HEADS = (0.0, 1.0)
TEXTS = (1.0, 2.0, 3.0, 5.0, 8.0)
LIFTS = (0.0, 1.0, 2.0, 3.0, 4.0)
MOST_EVENTS = 5  # of an item, where rules are tried

IntArray = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoreParts:
    """Scores of U requests, taken apart where the rule weighs; items as the index has them.

    Attributes:
        known: float32 ``[U, K]``, final.
        head: float32 ``[U, n]`` of new items.
        text: float32 ``[U, n]``.
        rest: float32 ``[n]``, the mean prior and what is the same for all.
    """

    known: Scores
    head: Scores
    text: Scores
    rest: Scores

    def by(self, rule: NewItemRule) -> Scores:
        """Float32 ``[U, K + n]``."""
        new = rule.head * self.head + rule.text * self.text + (self.rest + rule.lift)
        return np.concatenate([self.known, new.astype(np.float32)], axis=1)


@dataclass(frozen=True, eq=False)
class NewItemBench:
    """A run with `new` items beside the ones that it knows, numbered as its index numbers them.

    Attributes:
        index: by the rule 1, 1, 0.
        recommender: the run's, loaded.
        new: int64 ``[n]`` of the whole catalogue.
        place: int64 ``[V]``: an item of the whole catalogue → its place in the index, or -1.
    """

    index: ItemIndex
    recommender: Recommender
    vectors: torch.Tensor
    new: IntArray
    place: IntArray

    @classmethod
    def of(cls, bench: ColdStartBench, recommender: Recommender, stage: Stage) -> NewItemBench:
        """The run loaded in `recommender`, with the cold items of `stage` as its new items."""
        new = bench.cold_of(stage)
        catalogue = bench.whole.catalogue
        beside = None
        if recommender.beside is not None and catalogue.vectors is not None:
            beside = torch.tensor(catalogue.vectors.values[new]).to(recommender.device)
        texts = [catalogue.texts[i] for i in new]
        vectors = new_item_vectors(recommender, texts, beside=beside)
        known = np.setdiff1d(np.arange(len(bench.whole.catalogue)), bench.cold.all)
        place = np.full(len(bench.whole.catalogue), -1, dtype=np.int64)
        place[np.concatenate([known, new])] = np.arange(len(known) + len(new))
        index = build_index(recommender, vectors, NewItemRule())
        return cls(index, recommender, vectors, new, place)

    @property
    def places(self) -> IntArray:
        """Places of the new items."""
        return self.place[self.new]

    def served(self, rule: NewItemRule | None = None) -> ItemIndex:
        """The index as a site serves it; None: by the model's own rule."""
        return build_index(self.recommender, self.vectors, rule)

    def requests(self, events: Sequence[UserSplit]) -> Requests:
        """The events' requests, with items by their places."""
        asked = requests_of(events, "test")
        histories = [self.place[history] for history in asked.histories]
        return Requests(histories, asked.moments, asked.previous, asked.attributes)

    def parts(self, asked: Requests) -> ScoreParts:
        """Scores of `asked`, taken apart."""
        index, known = self.index, len(self.index) - len(self.new)
        queries = torch.cat([index.queries(asked[at : at + 64]) for at in range(0, len(asked), 64)])
        width = index.vectors.shape[1] - len(index.terms.softening)
        new = index.vectors[known:]
        scores = (queries @ index.vectors[:known].T + index.bias[:known]).numpy()
        if index.item_to_item is not None:
            scores += index.item_to_item.scores(list(asked.histories))
        prior = index.terms.bias(torch.zeros(len(new))).detach()
        head = queries[:, :width] @ new[:, :width].T + (index.bias[known:] - prior)
        text = queries[:, width:] @ new[:, width:].T
        return ScoreParts(scores, head.numpy(), text.numpy(), prior.numpy())


@dataclass(frozen=True)
class TriedRule:
    """A rule's figures on validation, NDCG@10.

    Attributes:
        rule: tried.
        among_all: of new items among all, mean over items.
        among_new: of new items among new ones.
        known: of users' known items, among all.
    """

    rule: NewItemRule
    among_all: float
    among_new: float
    known: float


def try_rules(bench: ColdStartBench, items: NewItemBench) -> Iterator[TriedRule]:
    """Every rule of the grid on validation; the first is 1, 1 and no lift."""
    events = _few(bench.events["validation"])
    asked = items.requests(events)
    cold = items.parts(asked)
    wanted = items.place[[int(event.test.items[0]) for event in events]]
    splits = [split for split in bench.splits if len(split.validation)]
    users = requests_of(splits, "validation")
    warm = items.parts(users)
    targets = [split.validation.items for split in splits]
    for rule in [NewItemRule(), *(NewItemRule(*each) for each in product(HEADS, TEXTS, LIFTS))]:
        scores = cold.by(rule)
        ranks = worst_ranks(warm.by(rule), targets, list(users.histories))
        yield TriedRule(
            rule,
            float(item_means(scores, wanted, asked.histories).mean()),
            float(item_means(only(scores, items.places), wanted, asked.histories).mean()),
            float(user_metrics(ranks)["ndcg_10"].mean()),
        )


def chosen(tried: Sequence[TriedRule]) -> TriedRule:
    """The best for new items, in both rankings together, that known items can bear.

    Args:
        tried: the first without any lift, which the loss is counted from.
    """
    least = (1 - LARGEST_LOSS) * tried[0].known
    return max(
        (each for each in tried if each.known >= least),
        key=lambda each: each.among_all + each.among_new,
    )


def _few(events: Sequence[UserSplit]) -> list[UserSplit]:
    """The first `MOST_EVENTS` of each item."""
    seen: Counter[int] = Counter()
    kept = []
    for event in events:
        item = int(event.test.items[0])
        seen[item] += 1
        if seen[item] <= MOST_EVENTS:
            kept.append(event)
    return kept


def item_means(
    scores: Scores, wanted: IntArray, histories: Sequence[IntArray]
) -> NDArray[np.float64]:
    """NDCG@10 of each new item, a mean over its events: float64 ``[I]``, by rising place."""
    ranks = worst_ranks(scores, [np.array([item]) for item in wanted], list(histories))
    ndcg = user_metrics(ranks)["ndcg_10"]
    _, at = np.unique(wanted, return_inverse=True)
    means: NDArray[np.float64] = np.bincount(at, ndcg) / np.bincount(at)
    return means


def only(scores: Scores, items: IntArray) -> Scores:
    """`scores` with all but `items` left out."""
    left = np.full_like(scores, -np.inf)
    left[:, items] = scores[:, items]
    return left
