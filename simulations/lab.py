"""After a run: the exact test figures of its adapter and of the baselines, lab only."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.adapters import load_adapter
from common.build_recommender import build_recommender
from common.config import RunConfig
from common.devices import device_label
from common.holdout import UserSplit, hold_out
from common.initial_adapter import initial_adapter
from common.interactions import Catalogue, Dataset
from common.item_to_item import NO_WEIGHTS
from common.loaded_recommender import load_round
from common.progress import ProgressListener
from common.recommender import Recommender
from common.run_folder import RunFolder
from simulations.baselines import (
    choose_ease,
    dp_popularity_metrics,
    popularity_scorer,
    random_scorer,
    text_floor_metrics,
)
from simulations.baselines.dp_popularity import NoiseForm
from simulations.evaluation.full_ranking import Scorer, evaluate_scorer
from simulations.fairness.companion_tables import with_fairness
from simulations.peft_files import write_peft_files
from simulations.report import EvaluatedRow, RunCost, build_metrics
from simulations.run_statistics import run_statistics

TUNED = (
    "Scenario settings (learning rates, rounds, head, shares of ε) were chosen on "
    "non-private validation of the same data; that search is not covered by ε.",
    "Constants of the text floor and λ of EASE were chosen on validation.",
)


def examine(
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    *,
    started: float,
    listener: ProgressListener | None = None,
) -> dict[str, Any]:
    """Ranks all unseen items for every user under the run's adapter and each baseline.

    Args:
        config: The run's configuration.
        folder: The run's folder, with adapter and checkpoint; gets ``metrics.json``.
        dataset: The pooled data, which only the lab has.
        started: `time.monotonic()` when the run began.
        listener: Hears of companion runs.

    Returns:
        The contents of ``metrics.json``.
    """
    splits = hold_out(
        dataset.interactions,
        dataset.catalogue,
        split=config.data.split,
        seed=config.data.seed,
    )
    recommender = build_recommender(config, dataset.catalogue)
    model = _model_row(config, recommender, folder, splits)
    write_peft_files(recommender.item_tower.peft, folder)  # the run's adapter is loaded
    rows = [
        model,
        _start_row(config, recommender, folder, splits),
        *_baseline_rows(config, recommender, splits),
    ]
    exact = build_metrics(
        rows,
        dataset=dataset.name,
        split=config.data.split,
        stage="test",
        cost=RunCost(
            seconds=time.monotonic() - started,
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            device=device_label(recommender.device),
        ),
        users=dataset.users,
        tuned=TUNED,
        resamples=config.evaluation.bootstrap_resamples,
        seed=config.data.seed,
    )
    shown = with_fairness(exact, config, folder, dataset, listener)
    metrics = shown.model_dump(mode="json")
    folder.write_json("metrics.json", metrics)
    return metrics


def write_run_peft(config: RunConfig, folder: RunFolder, catalogue: Catalogue) -> None:
    """PEFT's files of the run's adapter, where the lab evaluates nothing and writes no others."""
    recommender = build_recommender(config, catalogue)
    load_adapter(recommender, folder.read_adapter()[0])
    write_peft_files(recommender.item_tower.peft, folder)


def scorer_of(
    recommender: Recommender,
    adapter: dict[str, npt.NDArray[np.float32]],
    item_prior: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32] = NO_WEIGHTS,
) -> Scorer:
    """The recommender as a scorer; see `common.loaded_recommender.load_round`."""
    load_round(recommender, adapter, item_prior, weights)
    return recommender.score_all


def _model_row(
    config: RunConfig, recommender: Recommender, folder: RunFolder, splits: Sequence[UserSplit]
) -> EvaluatedRow:
    adapter, _ = folder.read_adapter()
    prior, weights = run_statistics(folder)
    scorer = scorer_of(recommender, adapter, prior, weights)
    privacy = config.privacy
    per = "" if privacy.unit == "user" else f" per {privacy.unit}"
    claim = f"{privacy.mode}, ε={privacy.target_epsilon:g}{per}"
    return EvaluatedRow(
        name=f"fedrec ({claim if config.is_private else 'no privacy'})",
        kind="model",
        metrics=evaluate_scorer(scorer, splits, "test"),
        mode=privacy.mode,
        epsilon=privacy.target_epsilon if config.is_private else None,
        note=f"{config.data.sites} sites, {config.federation.rounds} rounds",
    )


def _start_row(
    config: RunConfig, recommender: Recommender, folder: RunFolder, splits: Sequence[UserSplit]
) -> EvaluatedRow:
    """The same model before the first round: what training added, and what it did not."""
    prior, weights = run_statistics(folder)
    scorer = scorer_of(recommender, initial_adapter(config), prior, weights)
    return EvaluatedRow(
        name="fedrec before training",
        kind="ablation",
        metrics=evaluate_scorer(scorer, splits, "test"),
        note="frozen BERT, untrained head, the run's own statistics of items",
    )


def _baseline_rows(
    config: RunConfig, recommender: Recommender, splits: Sequence[UserSplit]
) -> list[EvaluatedRow]:
    items = len(recommender.item_prior)
    ease, penalty = choose_ease(splits, items)
    scorers: list[tuple[str, Scorer, str]] = [
        ("Random", random_scorer(items, config.data.seed), ""),
        ("Pop", popularity_scorer(splits, items), "pooled data, no privacy"),
        ("EASE", ease, f"pooled data, no privacy, λ={penalty:g} chosen on validation"),
    ]
    rows = [
        EvaluatedRow(name, "baseline", evaluate_scorer(scorer, splits, "test"), note=note)
        for name, scorer, note in scorers
    ]
    return rows + (_private_floors(config, recommender, splits) if config.is_private else [])


def _private_floors(
    config: RunConfig, recommender: Recommender, splits: Sequence[UserSplit]
) -> list[EvaluatedRow]:
    """DP-Pop and the text floor, each spending the run's whole ε on its one release."""
    privacy, items = config.privacy, len(recommender.item_prior)
    form: NoiseForm = "central" if config.is_summed else "local"
    load_adapter(recommender, initial_adapter(config))
    vectors = recommender.item_tower.table().cpu().numpy()
    popularity = dp_popularity_metrics(
        splits,
        items,
        "test",
        epsilon=privacy.target_epsilon,
        delta=privacy.target_delta,
        form=form,
        sites=config.data.sites,
    )
    text = text_floor_metrics(
        vectors,
        splits,
        "test",
        epsilon=privacy.target_epsilon,
        delta=privacy.target_delta,
        form=form,
        sites=config.data.sites,
    )
    where = "once on the sum over all sites" if config.is_summed else "at every site"
    note = f"all of ε on one release, noise {where}"
    if privacy.unit != "user":
        note += f"; ε per user, which promises more than per {privacy.unit}"
    epsilon = privacy.target_epsilon
    return [
        EvaluatedRow("DP-Pop", "dp_popularity", popularity, privacy.mode, epsilon, note),
        EvaluatedRow("DP-Pop + on-site text", "text_floor", text, privacy.mode, epsilon, note),
    ]
