"""Do clicks and ratings help each other when they are trained together? Paired, on validation.

``python -m benchmarks.joint_objectives FILE`` adds one JSON line to FILE for each ε and seed that
it lacks, so that it can be cut short; ``--page PAGE`` renews the table there. For each, three runs
of the scenario `distributed` (without privacy with the bilinear head and 200 negatives) differ in
the objective alone: clicks, clicks and ratings together, and the same with a hundredfold weight of
the ratings, which leaves clicks no say. Lists are judged by NDCG@10 of each user's validation item
among all items; ratings by the error at that item. Beside them stand the item's mean training
rating, damped, and the mean of all ratings: exact counts over all sites, for the lab alone.
Intervals: bootstrap over users, paired.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.by_epsilon import fill
from common.build_recommender import build_recommender
from common.config import RunConfig
from common.config_loading import load_config
from common.holdout import UserSplit
from common.progress import SilentListener
from common.ranking import worst_ranks
from common.requests import requests_of
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.fairness.user_intervals import percentile_interval, resampled_sums
from simulations.lab import held_out
from simulations.report.rating_records import training_means
from simulations.run_scorer import run_scorer
from simulations.scenario_files import find_scenario
from simulations.simulate import simulate

Floats = npt.NDArray[np.float64]
SETTINGS = {
    "inf": (
        "distributed",
        ["privacy.mode=none", "model.head=bilinear", "privacy.negatives_per_unit=200"],
    ),
    "8": ("distributed", []),
}
ARMS = {
    "clicks": ["model.objective=click"],
    "ratings": ["model.objective=click_rating", "model.rating_weight=100"],
    "both": ["model.objective=click_rating"],
}
RESAMPLES, DIGITS = 2000, 4


def measured(epsilon: str, seed: int) -> list[dict[str, Any]]:
    """What the three runs of one ε and seed gave, as one line."""
    seeds = [f"data.seed={seed}", f"federation.seed={seed}"]
    scenario, own = SETTINGS[epsilon]
    shared = [*own, *seeds, "evaluation.lab=false", "evaluation.companions="]
    arms, plain = {}, {}
    for arm, objective in ARMS.items():
        config = load_config(scenario=find_scenario(scenario), overrides=[*shared, *objective])
        arms[arm], plain = _of_run(config)
    columns = {f"{arm} {name}": values for arm, own in arms.items() for name, values in own.items()}
    columns |= {f"{name} square": values for name, values in plain.items()}
    return [{"epsilon": epsilon, "seed": seed, **_figures(columns)}]


def _of_run(config: RunConfig) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """float64[U] by name: of a fresh run, and of the means."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder.create(Path(temporary) / "run")
        folder.write_config(config)
        simulate(config, folder, SilentListener())
        dataset = load_dataset(config.data)
        recommender = build_recommender(config, dataset.catalogue)
        scorer = run_scorer(recommender, folder)
        splits = [split for split in held_out(config, dataset) if len(split.validation.items)]
        asked = requests_of(splits, "validation")
        scores = np.asarray(scorer(asked))
        targets = np.array([split.validation.items[0] for split in splits])
        wanted = np.array([split.validation.ratings[0] for split in splits], dtype=np.float64)
        ranks = worst_ranks(
            scores,
            [split.validation.items[:1] for split in splits],
            [s.train.items for s in splits],
        )
        rank = np.concatenate(ranks)
        found = {"ndcg": np.where(rank <= 10, 1 / np.log2(1.0 + rank), 0.0)}
        users = np.arange(len(splits))
        if config.model.objective == "click_rating":
            predicted = recommender.predicted_ratings(asked)[users, targets]
            found["square"] = (predicted - wanted) ** 2
    return found, _squares_of_means(splits, targets, wanted, len(dataset.catalogue))


def _squares_of_means(
    splits: list[UserSplit], targets: npt.NDArray[np.int64], wanted: Floats, items: int
) -> dict[str, Floats]:
    means, overall = training_means(splits, items)
    return {
        "item mean": (means[targets] - wanted) ** 2,
        "overall mean": (overall - wanted) ** 2,
    }


def _figures(columns: dict[str, Floats]) -> dict[str, Any]:
    """Each column's figure, and the differences that were asked for, with 95% intervals."""
    names = list(columns)
    table = np.column_stack([columns[name] for name in names])
    drawn = resampled_sums(table, resamples=RESAMPLES, seed=0) / len(table)

    def figure(name: str, less: str = "") -> list[float]:
        means, places = table.mean(0), (names.index(name), names.index(less or name))
        is_error = name.endswith("square")
        whole, resampled = (np.sqrt(each) if is_error else each for each in (means, drawn))
        value, values = whole[places[0]], resampled[:, places[0]]
        if less:
            value, values = value - whole[places[1]], values - resampled[:, places[1]]
        interval = percentile_interval(float(value), values)
        return [round(float(v), DIGITS) for v in (interval.mean, interval.low, interval.high)]

    return {
        "users": len(table),
        "figures": {name: figure(name) for name in names},
        "ndcg: both less clicks": figure("both ndcg", "clicks ndcg"),
        "rmse: both less ratings": figure("both square", "ratings square"),
        "rmse: both less item mean": figure("both square", "item mean square"),
    }


def table(lines: list[dict[str, Any]]) -> str:
    """The page's table."""
    rows = [
        "| ε | seed | NDCG@10: clicks, both | both − clicks | RMSE: ratings, both, item mean, "
        "overall mean | both − ratings | both − item mean |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        figures = line["figures"]
        lists = ", ".join(f"{figures[f'{arm} ndcg'][0]:.4f}" for arm in ("clicks", "both"))
        errors = ("ratings", "both", "item mean", "overall mean")
        ratings = ", ".join(f"{figures[f'{name} square'][0]:.3f}" for name in errors)
        lists_less, ratings_less, mean_less = (
            "{:+.4f} [{:+.4f}, {:+.4f}]".format(*line[name]) for name in line if ": " in name
        )
        epsilon = "∞" if line["epsilon"] == "inf" else line["epsilon"]
        rows.append(
            f"| {epsilon} | {line['seed']} | {lists} | {lists_less} | {ratings} | {ratings_less} "
            f"| {mean_less} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    fill(__doc__, SETTINGS, measured, table, "joint")
