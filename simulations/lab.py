"""After a run: the exact test figures of its adapter and of the baselines, lab only."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from typing import Any

from common.adapters import load_adapter
from common.build_recommender import build_recommender
from common.config import RunConfig
from common.devices import device_label
from common.holdout import Stage, UserSplit, hold_out
from common.initial_adapter import initial_adapter
from common.interactions import Catalogue, Dataset
from common.peft_files import write_peft_files
from common.progress import ProgressListener, SilentListener
from common.recommender import Recommender
from common.run_folder import RunFolder
from simulations.baseline_rows import baseline_rows
from simulations.baselines import popularity_scorer
from simulations.companion_plans import TIME_CUT
from simulations.companion_rows import CompanionOutcome, companion_outcomes, fairness_beside
from simulations.comparison.per_user_file import keep_users
from simulations.evaluation.full_ranking import evaluate_scorer
from simulations.public.loading import impressions_of
from simulations.report import EvaluatedRow, MetricsFile, RunCost, build_metrics
from simulations.report.impression_records import impressions_record
from simulations.report.metrics_file import ImpressionsRecord, RatingsRecord
from simulations.report.protocol_records import sampled_record, time_cut_record
from simulations.report.rating_records import ratings_record
from simulations.run_scorer import run_scorer, scorer_of
from simulations.run_statistics import run_statistics

START = "fedrec before training"
TUNED = (
    "Scenario settings (learning rates, rounds, head, shares of ε) were chosen on "
    "non-private validation of the same data; that search is not covered by ε.",
    "Constants of the text floor and settings of the other baselines were chosen on validation.",
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

    Then the companions of `evaluation.companions` run, and stand in the table beside it.

    Args:
        config: The run's configuration.
        folder: The run's folder, with adapter and checkpoint; gets ``metrics.json``.
        dataset: The pooled data, which only the lab has.
        started: `time.monotonic()` when the run began.
        listener: Hears of the companion runs; nobody, where left out.

    Returns:
        The contents of ``metrics.json``.
    """
    splits = held_out(config, dataset)
    recommender = build_recommender(config, dataset.catalogue)
    model = model_row(config, recommender, folder, splits)
    write_peft_files(
        recommender.item_tower.peft, folder.path / "adapter"
    )  # the run's adapter is loaded
    shown = _impressions(config, recommender, folder, dataset, splits, model.name)
    rated = _ratings(config, recommender, folder, splits, model.name)
    others = [
        _start_row(config, recommender, folder, splits),
        *baseline_rows(config, recommender, splits),
    ]
    cost = RunCost(
        seconds=time.monotonic() - started,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        device=device_label(recommender.device),
    )
    hears = listener or SilentListener()
    outcomes: list[CompanionOutcome] = []
    try:
        for outcome in companion_outcomes(config, folder, dataset, splits, hears):
            outcomes.append(outcome)
    finally:  # the run's own result is never lost, and neither is a companion that is over
        rows = _same_users([model, *others], outcomes)
        exact = _metrics(config, dataset, splits, rows, outcomes, cost, shown, rated)
        keep_users(folder.path, config.data, dataset.name, splits, rows)
        folder.write_json("metrics.json", exact.model_dump(mode="json"))
    complete = fairness_beside(exact, config, folder, dataset, hears)
    metrics = complete.model_dump(mode="json")
    folder.write_json("metrics.json", metrics)
    return metrics


def _same_users(
    own: Sequence[EvaluatedRow], outcomes: Sequence[CompanionOutcome]
) -> list[EvaluatedRow]:
    """The model, its companions on the same split, and then the other rows."""
    beside = [o.rows[0] for o in outcomes if o.rows and o.record.name != TIME_CUT]
    return [own[0], *beside, *own[1:]]


def _metrics(
    config: RunConfig,
    dataset: Dataset,
    splits: Sequence[UserSplit],
    rows: Sequence[EvaluatedRow],
    outcomes: Sequence[CompanionOutcome],
    cost: RunCost,
    impressions: ImpressionsRecord | None,
    ratings: RatingsRecord | None,
) -> MetricsFile:
    """The contents of ``metrics.json``."""
    in_time = next((o for o in outcomes if o.rows and o.record.name == TIME_CUT), None)
    resamples, seed = config.evaluation.bootstrap_resamples, config.data.seed
    items = len(dataset.catalogue)
    return build_metrics(
        rows,
        dataset=dataset.name,
        split=config.data.split,
        stage="test",
        cost=cost,
        users=dataset.users,
        tuned=TUNED,
        warnings=[each.warning for each in outcomes if each.warning],
        sampled=sampled_record(rows, splits, "test", items, resamples=resamples, seed=seed),
        time_cut=time_cut_record(in_time.rows, in_time.cut, resamples=resamples, seed=seed)
        if in_time is not None
        else None,
        companions=[each.record for each in outcomes],
        impressions=impressions,
        ratings=ratings,
        resamples=resamples,
        seed=seed,
    )


def _impressions(
    config: RunConfig,
    recommender: Recommender,
    folder: RunFolder,
    dataset: Dataset,
    splits: Sequence[UserSplit],
    name: str,
) -> ImpressionsRecord | None:
    """What was shown to the users, ranked by the run's adapter, before training, by popularity."""
    impressions = impressions_of(config.data)
    if not impressions:
        return None
    statistics, items = run_statistics(folder), len(dataset.catalogue)
    how: dict[str, int] = {
        "resamples": config.evaluation.bootstrap_resamples,
        "seed": config.data.seed,
    }
    rows = (
        (name, lambda: run_scorer(recommender, folder)),
        (START, lambda: scorer_of(recommender, initial_adapter(config), statistics)),
        ("Pop", lambda: popularity_scorer(splits, items)),
    )
    return impressions_record(rows, impressions, splits, dataset.catalogue, **how)


def _ratings(
    config: RunConfig,
    recommender: Recommender,
    folder: RunFolder,
    splits: Sequence[UserSplit],
    name: str,
) -> RatingsRecord | None:
    """How well the run's adapter tells the test items' ratings, where it has that output."""
    if config.model.objective != "click_rating":
        return None
    run_scorer(recommender, folder)  # the run's adapter, whatever was loaded
    return ratings_record(
        name,
        recommender.predicted_ratings,
        splits,
        len(recommender.item_prior),
        "test",
        resamples=config.evaluation.bootstrap_resamples,
        seed=config.data.seed,
    )


def model_row(
    config: RunConfig,
    recommender: Recommender,
    folder: RunFolder,
    splits: Sequence[UserSplit],
    stage: Stage = "test",
) -> EvaluatedRow:
    """The run's own row: its adapter and statistics, judged on `stage` of every user."""
    scorer = run_scorer(recommender, folder)
    privacy = config.privacy
    per = "" if privacy.unit == "user" else f" per {privacy.unit}"
    claim = f"{privacy.mode}, ε={privacy.target_epsilon:g}{per}"
    return EvaluatedRow(
        name=f"fedrec ({claim if config.is_private else 'no privacy'})",
        kind="model",
        metrics=evaluate_scorer(scorer, splits, stage),
        mode=privacy.mode,
        epsilon=privacy.target_epsilon if config.is_private else None,
        note=f"{config.data.sites} sites, {config.federation.rounds} rounds",
    )


def held_out(config: RunConfig, dataset: Dataset) -> list[UserSplit]:
    """Every user's parts in time, with what the user's side of the model reads of them."""
    data = config.data
    return hold_out(
        dataset.interactions,
        dataset.catalogue,
        split=data.split,
        seed=data.seed,
        cut=data.cut,
        users=dataset.users,
    )


def write_run_peft(config: RunConfig, folder: RunFolder, catalogue: Catalogue) -> None:
    """PEFT's files of the run's adapter, where the lab evaluates nothing and writes no others."""
    recommender = build_recommender(config, catalogue)
    load_adapter(recommender, folder.read_adapter()[0])
    write_peft_files(recommender.item_tower.peft, folder.path / "adapter")


def _start_row(
    config: RunConfig, recommender: Recommender, folder: RunFolder, splits: Sequence[UserSplit]
) -> EvaluatedRow:
    """The same model before the first round: what training added, and what it did not."""
    scorer = scorer_of(recommender, initial_adapter(config), run_statistics(folder))
    return EvaluatedRow(
        name=START,
        kind="ablation",
        metrics=evaluate_scorer(scorer, splits, "test"),
        note="frozen BERT, untrained head, the run's own statistics of items",
    )
