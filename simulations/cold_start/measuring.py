"""The figures of one cold-start run: new users by length of history, and new items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.build_recommender import build_recommender
from common.context_names import context_names
from common.holdout import Stage, targets_of
from common.interaction_checks import UNKNOWN
from common.loaded_recommender import load_round
from common.metrics import user_metrics
from common.new_items import NewItemRule, rule_of
from common.ranking import worst_ranks
from common.recommender import Recommender
from common.requests import Requests, requests_of
from common.run_folder import RunFolder
from simulations.baselines.popularity import train_counts
from simulations.cold_start.bench import (
    HISTORY_LENGTHS,
    ColdStartBench,
    first_requests,
)
from simulations.cold_start.new_items import NewItemBench, item_means, only
from simulations.cold_start.plain_scorers import (
    EVENLY,
    RECENT,
    frozen_scorer,
    frozen_vectors,
    popularity_with_ties,
    tfidf_scorer,
)
from simulations.evaluation.full_ranking import Scorer
from simulations.evaluation.intervals import Interval, mean_interval, paired_difference
from simulations.run_statistics import run_statistics

MODEL = "fedrec"
UNLIFTED = "fedrec, new items by the mean prior alone"
AMONG_ALL, AMONG_NEW = "new items among all", "new items among new"
KNOWN = "trained users' known items, new items beside them"

IntArray = NDArray[np.int64]
Listener = Callable[[str], None]


@dataclass(frozen=True)
class ColdStartRow:
    """One method in one setting.

    Attributes:
        setting: new users with a length of history, or new items and among what.
        method: fedrec, or what stands beside it.
        units: users, or items, that the mean and the interval are over.
        ndcg: NDCG@10.
        gain: fedrec less this method, paired over the units; zero for fedrec itself.
    """

    setting: str
    method: str
    units: int
    ndcg: Interval
    gain: Interval

    def to_dict(self) -> dict[str, Any]:
        """As a line of the result file has it."""
        return asdict(self)


def measure(
    bench: ColdStartBench, folder: RunFolder, stage: Stage, listen: Listener = lambda _: None
) -> list[ColdStartRow]:
    """All rows of the run in `folder`; `listen` hears of what is measured next."""
    config = folder.read_config()
    recommender = build_recommender(config, bench.known.catalogue)
    load_round(recommender, folder.read_adapter()[0], *run_statistics(folder))
    listen("what stands beside")
    plain = plain_scorers(bench, folder)
    rows = []
    for length in HISTORY_LENGTHS:
        listen(f"new users after {length} items")
        rows += _user_rows(bench, recommender, plain, length, stage)
    listen("new items")
    return rows + _item_rows(bench, recommender, plain, stage)


def plain_scorers(bench: ColdStartBench, folder: RunFolder) -> dict[str, Scorer]:
    """By name, over the whole catalogue: the texts of new items are known to them too."""
    config, whole = folder.read_config(), bench.whole.catalogue
    counts = np.zeros(len(whole), dtype=np.int64)
    counts[_known(bench)] = train_counts(bench.splits, len(bench.known.catalogue))
    vectors = frozen_vectors(config, whole)
    return {
        "popularity": popularity_with_ties(counts, config.data.seed),
        "TF-IDF": tfidf_scorer(whole, EVENLY),
        "TF-IDF, recent first": tfidf_scorer(whole, RECENT),
        "frozen text cosine": frozen_scorer(vectors, RECENT),
    }


def _user_rows(
    bench: ColdStartBench,
    recommender: Recommender,
    plain: Mapping[str, Scorer],
    length: int,
    stage: Stage,
) -> list[ColdStartRow]:
    users, known = bench.new_users[stage], _known(bench)
    asked, targets = first_requests(users, length)
    histories = list(asked.histories)

    def judged(scores: NDArray[np.float32]) -> NDArray[np.float64]:
        return user_metrics(worst_ranks(scores, targets, histories))["ndcg_10"]

    found = {MODEL: judged(recommender.score_all(asked))}
    if context_names(recommender.config.context):
        nobody = [dict.fromkeys(each, UNKNOWN) for each in asked.attributes]
        blind = Requests(histories, asked.moments, asked.previous, nobody)
        found["fedrec, attributes unknown"] = judged(recommender.score_all(blind))
    for name, scorer in plain.items():
        scores = np.asarray(scorer([known[history] for history in histories]))
        found[name] = judged(scores[:, known])
    return _rows(f"new users, {length} items", found)


@dataclass(frozen=True, eq=False)
class NewItemFigures:
    """NDCG@10 of each method for each new item, and of users who wanted a known one beside them.

    Attributes:
        items: int64 ``[I]`` of the whole catalogue, rising; those with an event.
        among_all: by method, float64 ``[I]``.
        among_new: by method, float64 ``[I]``.
        known: float64 ``[U]`` of training's users, by what new items are scored by.
    """

    items: IntArray
    among_all: Mapping[str, NDArray[np.float64]]
    among_new: Mapping[str, NDArray[np.float64]]
    known: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(
        cls,
        bench: ColdStartBench,
        recommender: Recommender,
        plain: Mapping[str, Scorer],
        stage: Stage,
    ) -> NewItemFigures:
        """Figures of the items of `stage`; `plain` as `plain_scorers` has them."""
        items = NewItemBench.of(bench, recommender, stage)
        events = bench.events[stage]
        asked = items.requests(events)
        histories = list(asked.histories)
        judged = np.array([int(event.test.items[0]) for event in events])
        wanted = items.place[judged]
        order = np.argsort(np.where(items.place < 0, len(items.place), items.place), kind="stable")
        order = order[: len(items.index)]  # the whole catalogue's items by their place
        index = items.served()
        tables = {MODEL: np.stack([index.scores(asked[at : at + 1]) for at in range(len(asked))])}
        for name, scorer in plain.items():
            tables[name] = np.asarray(scorer([order[history] for history in histories]))[:, order]
        return cls(
            items=np.unique(judged),
            among_all={n: item_means(table, wanted, histories) for n, table in tables.items()},
            among_new={
                n: item_means(only(table, items.places), wanted, histories)
                for n, table in tables.items()
            },
            known=_beside_new_items(bench, items, stage),
        )


def _item_rows(
    bench: ColdStartBench, recommender: Recommender, plain: Mapping[str, Scorer], stage: Stage
) -> list[ColdStartRow]:
    found = NewItemFigures.of(bench, recommender, plain, stage)
    rows = _rows(AMONG_ALL, found.among_all) + _rows(AMONG_NEW, found.among_new)
    return rows + _rows(KNOWN, found.known)


def _beside_new_items(
    bench: ColdStartBench, items: NewItemBench, stage: Stage
) -> dict[str, NDArray[np.float64]]:
    """What the rule for new items costs trained users, who wanted a known item."""
    users = requests_of(bench.splits, stage)
    parts = items.parts(users)
    targets = [targets_of(split, stage) for split in bench.splits]

    def judged(rule: NewItemRule) -> NDArray[np.float64]:
        ranks = worst_ranks(parts.by(rule), targets, list(users.histories))
        return user_metrics(ranks)["ndcg_10"]

    return {
        MODEL: judged(rule_of(items.recommender.config)),
        UNLIFTED: judged(NewItemRule()),
    }


def _rows(setting: str, found: Mapping[str, NDArray[np.float64]]) -> list[ColdStartRow]:
    model = found[MODEL]
    return [
        ColdStartRow(
            setting, name, len(values), mean_interval(values), paired_difference(model, values)
        )
        for name, values in found.items()
    ]


def _known(bench: ColdStartBench) -> IntArray:
    """Items of the whole catalogue that training knew, as training numbers them."""
    return np.setdiff1d(np.arange(len(bench.whole.catalogue)), bench.cold.all)


def failures(rows: Sequence[ColdStartRow]) -> list[str]:
    """Where fedrec is not above popularity and TF-IDF with an interval that excludes zero."""
    return [
        f"{row.setting}: {row.method}"
        for row in rows
        if row.method.startswith(("popularity", "TF-IDF")) and not row.gain.low > 0
    ]
