"""Whether item vectors and a graph made of genres gain anything on MovieLens-100K.

::

    PYTHONPATH=. python -m benchmarks.item_side --work FOLDER --write FILE

Each arm is the scenario `distributed` (ε = 8) with one kind of vectors and one weight. Weights are
compared on validation; the best of a kind is then compared with the run without vectors on test,
paired over users, once. There are no pictures of these films at hand: the vectors of kind `made`
are **generated, with a known signal**: directions of who trained on what, plus noise. They are not
public and stand for no real picture; they show what the path can carry. FOLDER keeps what was run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from common.build_recommender import build_recommender
from common.config import RunConfig
from common.config_loading import load_config
from common.initial_adapter import initial_adapter
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.engines import run_engine
from simulations.evaluation.full_ranking import PerUser, evaluate_scorer
from simulations.evaluation.intervals import paired_difference
from simulations.lab import held_out
from simulations.public_items import with_item_hash
from simulations.run_scorer import run_scorer, scorer_of
from simulations.run_statistics import run_statistics
from simulations.scenario_files import find_scenario
from simulations.simulated_sites import simulated_sites

WEIGHTS = (0.3, 1.0)
WIDTH = 16
METRIC = "ndcg_10"


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--work", type=Path, required=True)
    asked.add_argument("--write", type=Path, required=True)
    asked.add_argument("--seeds", type=int, default=1)
    given = asked.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    made = given.work / "made.npz"
    write_made_vectors(made)
    lines: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        plain = run_arm(given.work / f"none-{seed}", [], seed)
        for kind, keys in (
            ("genre graph", ["data.item_graph=genres", f"data.item_graph_size={WIDTH}"]),
            ("made (generated signal)", [f"data.item_vectors={made}"]),
        ):
            arms = {}
            for weight in WEIGHTS:
                place = given.work / f"{kind.split()[0]}-{weight}-{seed}"
                own = [*keys, f"model.item_vectors_weight={weight}"]
                arms[weight] = run_arm(place, own, seed)
            for state in ("before training", "trained"):
                lines.append(line(kind, state, seed, plain, arms))
                given.write.write_text("".join(json.dumps(one) + "\n" for one in lines))


Figures = dict[tuple[str, str], PerUser]


def line(
    kind: str, state: str, seed: int, plain: Figures, arms: dict[float, Figures]
) -> dict[str, Any]:
    """One kind against none: the weight chosen on validation, the difference on test."""

    def mean(figures: Figures, stage: str) -> float:
        return float(figures[state, stage].metric(METRIC).mean())

    chosen = max(arms, key=lambda weight: mean(arms[weight], "validation"))
    first = arms[chosen][state, "test"].metric(METRIC)
    gain = paired_difference(first, plain[state, "test"].metric(METRIC))
    return {
        "kind": kind,
        "state": state,
        "seed": seed,
        "users": len(first),
        "validation": {"none": mean(plain, "validation")}
        | {str(weight): mean(arm, "validation") for weight, arm in arms.items()},
        "chosen_weight": chosen,
        "test_none": mean(plain, "test"),
        "test": mean(arms[chosen], "test"),
        "test_gain": [gain.mean, gain.low, gain.high],
    }


def run_arm(place: Path, overrides: list[str], seed: int) -> Figures:
    """Trains in `place` unless it was done, and ranks for both stages."""
    own = [f"federation.seed={seed}", "evaluation.every=0", "evaluation.companions="]
    config = load_config(scenario=find_scenario("distributed"), overrides=[*own, *overrides])
    dataset = load_dataset(config.data)
    config = with_item_hash(config, dataset)
    done = place / "done"
    if done.is_file():
        folder = RunFolder.open(place)
    else:
        folder = RunFolder.create(place)
        folder.write_config(config)
        with simulated_sites(dataset, config, folder) as sited:
            run_engine(sited, folder, SilentListener())
        done.touch()
    splits = held_out(config, dataset)
    recommender = build_recommender(config, dataset.catalogue)
    start = scorer_of(recommender, initial_adapter(config), run_statistics(folder))
    found: Figures = {
        ("before training", stage): evaluate_scorer(start, splits, stage)
        for stage in ("validation", "test")
    }
    trained = run_scorer(recommender, folder)
    for stage in ("validation", "test"):
        found["trained", stage] = evaluate_scorer(trained, splits, stage)
    return found


def write_made_vectors(path: Path) -> None:
    """Item vectors with a signal: who trained on what, its strongest directions, plus noise."""
    config = RunConfig()
    dataset = load_dataset(config.data)
    seen = np.zeros((len(dataset.users.user_ids), len(dataset.catalogue)))
    for user, split in enumerate(held_out(config, dataset)):
        seen[user, split.train.items] = 1
    _, values, directions = np.linalg.svd(seen - seen.mean(0), full_matrices=False)
    vectors = directions[:WIDTH].T * values[:WIDTH]
    noise = np.random.default_rng(0).normal(size=vectors.shape) * vectors.std(0)
    ids = np.array(dataset.catalogue.item_ids)
    np.savez(path, item_id=ids, vectors=(vectors + noise).astype(np.float32))


if __name__ == "__main__":
    main()
