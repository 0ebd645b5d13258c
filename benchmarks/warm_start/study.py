"""The runs of the study: a source, and on other data a run from its adapter and one from zero."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.build_recommender import build_recommender
from common.config import RunConfig
from common.config_loading import load_config
from common.holdout import Stage, UserSplit, hold_out
from common.initial_adapter import initial_adapter
from common.interactions import Dataset
from common.progress import SilentListener
from common.run_folder import RunFolder
from server.recoding import recoded_start
from server.warm_start import start_folder, starting_adapter
from simulations.datasets import load_dataset
from simulations.engines import run_engine
from simulations.evaluation.full_ranking import evaluate_scorer
from simulations.held_out_users import of_users
from simulations.run_scorer import scorer_of
from simulations.run_statistics import run_statistics
from simulations.scenario_files import find_scenario
from simulations.simulate import total_epsilon
from simulations.simulated_sites import simulated_sites

ROUNDS = (1, 2, 4)
SOURCE_ROUNDS = 4
RATES = (1.0, 0.2, 0.05)
METRIC = "ndcg_10"
_ALL = (
    *("data.sites=5", "model.item_side=head", "model.item_to_item=false"),
    *("evaluation.every=0", "evaluation.metrics=none", "evaluation.lab=false"),
    "evaluation.companions=",
)


@dataclass(frozen=True)
class Pair:
    """From which data to which.

    Attributes:
        name: on the command line and in the results.
        source: scenario that the source's data are of.
        target: scenario of the target's data, and of the settings of both runs.
        settings: laid over the target's.
        halves: whether both are halves of one data set's users: who came first, who came later.
    """

    name: str
    source: str
    target: str
    settings: tuple[str, ...] = ()
    halves: bool = False

    def config(self, epsilon: float, seed: int, *more: str) -> RunConfig:
        """Settings of a run of this pair at `epsilon` (∞: without privacy)."""
        guarantee = (
            "privacy.mode=none" if math.isinf(epsilon) else f"privacy.target_epsilon={epsilon}"
        )
        seeds = (f"data.seed={seed}", f"federation.seed={seed}")
        return load_config(
            scenario=find_scenario(self.target),
            overrides=[*_ALL, *self.settings, guarantee, *seeds, *more],
        )

    def datasets(self, config: RunConfig) -> tuple[Dataset, Dataset]:
        """The source's data and the target's."""
        target = load_dataset(config.data)
        if self.halves:
            return halves(target)
        name = load_config(scenario=find_scenario(self.source)).data.dataset
        return load_dataset(config.data.model_copy(update={"dataset": name})), target


PAIRS = (
    Pair("films-by-text", "demo", "demo", ("model.head_items=0",), halves=True),
    Pair("films-by-code", "demo", "demo", halves=True),
    Pair("products-to-music", "products", "music"),
    Pair("films-to-music", "demo", "music"),
)


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The users whose first interaction is older, and the others; nobody is in both."""
    rows = dataset.interactions
    first = np.full(len(rows.user_ids), np.iinfo(np.int64).max)
    np.minimum.at(first, rows.user, rows.timestamp)
    order = np.argsort(first, kind="stable")
    middle = len(order) // 2
    older, newer = np.sort(order[:middle]), np.sort(order[middle:])
    return of_users(dataset, older), of_users(dataset, newer)


def study(pair: Pair, epsilon: float, seed: int, out: Path) -> dict[str, Any]:
    """All runs of one pair at one ε with one seed; those in `out` are not made again.

    Returns:
        A line of results: NDCG@10 of each user of the target's test, warm and cold, by rounds;
        0 rounds is the start itself with the target's released popularity.
    """
    config = pair.config(epsilon, seed)
    before, after = pair.datasets(config)
    base = out / f"{pair.name}-{epsilon:g}-{seed}"
    splits = hold_out(
        after.interactions, after.catalogue, split=config.data.split, seed=config.data.seed
    )
    rounds = f"federation.rounds={SOURCE_ROUNDS}"
    found = {}
    for share in RATES:  # a cold run's validation decides, for all runs of the line
        rate = f"federation.local_lr={config.federation.local_lr * share}"
        tried = pair.config(epsilon, seed, rounds, rate)
        run = _train(tried, after, base / f"rate-{share:g}")
        found[rate] = float(np.mean(_figures(run, tried, after, splits, stage="validation")))
    rate = max(found, key=found.__getitem__)
    source = _train(pair.config(epsilon, seed, rounds, rate), before, base / "source")
    start = f"federation.warm_start={str(source.path.resolve())!r}"
    figures: dict[str, dict[str, list[float]]] = {"warm": {}, "cold": {}}
    spent: dict[str, float | None] = {"source": total_epsilon(source)}
    for count in ROUNDS:
        for kind, more in (("cold", ()), ("warm", (start,))):
            asked = pair.config(epsilon, seed, f"federation.rounds={count}", rate, *more)
            run = _train(asked, after, base / f"{kind}-{count}")
            figures[kind][str(count)] = _figures(run, asked, after, splits)
            spent[f"{kind}-{count}"] = total_epsilon(run)
            if count == ROUNDS[0]:
                figures[kind]["0"] = _figures(run, asked, after, splits, is_start=True)
    return {
        "schema_version": 1,
        "pair": pair.name,
        "epsilon": None if math.isinf(epsilon) else epsilon,
        "seed": seed,
        "source_users": len(before.users.user_ids),
        "target_users": len(after.users.user_ids),
        "same_people": False,
        "local_lr": float(rate.partition("=")[2]),
        "epsilon_stated": spent,
        METRIC: figures,
    }


def _train(config: RunConfig, dataset: Dataset, path: Path) -> RunFolder:
    """The federation over `dataset` in `path`, unless it was run there before."""
    if (path / "done").is_file():
        return RunFolder.open(path)
    shutil.rmtree(path, ignore_errors=True)  # what an interruption left
    path.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    folder = RunFolder.create(path)
    folder.write_config(config)
    with simulated_sites(dataset, config, folder) as sited:
        run_engine(sited, folder, SilentListener())
    print(f"{path.parent.name}/{path.name}: {time.monotonic() - started:.0f} s", flush=True)
    folder.write_text("done", "")
    return folder


def _figures(
    folder: RunFolder,
    config: RunConfig,
    dataset: Dataset,
    splits: Sequence[UserSplit],
    *,
    is_start: bool = False,
    stage: Stage = "test",
) -> list[float]:
    """NDCG@10 of each user of `stage` under the run's adapter, or under the one it started from."""
    adapter = folder.read_adapter()[0]
    if is_start:
        warm = bool(config.federation.warm_start)
        adapter = starting_adapter(config) if warm else initial_adapter(config)
        if warm:
            adapter = recoded_start(
                config, adapter, start_folder(config), run_statistics(folder).item_prior
            )
    recommender = build_recommender(config, dataset.catalogue)
    scorer = scorer_of(recommender, adapter, run_statistics(folder))
    return [round(float(v), 6) for v in evaluate_scorer(scorer, splits, stage).metric(METRIC)]
