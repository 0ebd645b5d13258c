"""Runs a run's companions and turns each into a row, or a table, of the results.

They stand beside the run: with its engine, on sites and ledgers of their own. One that fails
is a warning of the report, never the end of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from common.build_recommender import build_recommender
from common.config import RunConfig
from common.errors import FedrecError
from common.holdout import TimeCut, UserSplit, hold_out
from common.interactions import Dataset
from common.progress import ProgressListener
from common.run_folder import RunFolder
from simulations.baseline_rows import baseline_rows
from simulations.companion_plans import TIME_CUT, CompanionPlan, companion_plans
from simulations.companions import COMPANIONS_FOLDER, companion_config, run_companion
from simulations.evaluation.full_ranking import evaluate_scorer
from simulations.fairness.companion_tables import with_fairness
from simulations.report import EvaluatedRow, MetricsFile
from simulations.report.metrics_file import CompanionRecord
from simulations.run_scorer import run_scorer

WHAT_CAN_FAIL = (FedrecError, ValidationError, RuntimeError, MemoryError)
"""Torch tells of a full device as a `RuntimeError`."""


@dataclass(frozen=True)
class CompanionOutcome:
    """What came of a companion.

    Attributes:
        record: for `metrics.json`.
        rows: one for the table of results; or the whole table of a time cut.
        warning: of the report, where the companion failed.
        cut: the times of a time cut.
    """

    record: CompanionRecord
    rows: tuple[EvaluatedRow, ...] = ()
    warning: str = ""
    cut: TimeCut = (0, 0)


def companion_outcomes(
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    splits: Sequence[UserSplit],
    listener: ProgressListener,
) -> Iterator[CompanionOutcome]:
    """Run the companions that `evaluation.companions` asks for, and say which were not run.

    Args:
        config: of the run.
        folder: of the run, which is over.
        dataset: the pooled data.
        splits: one per user, of the run.
        listener: hears one line of each companion.

    Yields:
        What came of each, in the order of `COMPANIONS`.
    """
    for plan in companion_plans(config, dataset, splits):
        if plan.not_needed:
            yield CompanionOutcome(_record(plan, "not_needed", plan.not_needed))
        elif plan.name not in config.companions:
            yield CompanionOutcome(_record(plan, "not_run", _not_asked(config)))
        else:
            listener.message(f"companion run {plan.name}: {plan.row}")
            yield _outcome(plan, config, folder, dataset, splits)


def _outcome(
    plan: CompanionPlan,
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    splits: Sequence[UserSplit],
) -> CompanionOutcome:
    started = time.monotonic()
    try:
        changed = companion_config(config, plan.changes)
        made = run_companion(plan.name, changed, folder, dataset)
        rows = _rows(plan, changed, made, dataset, splits)
    except WHAT_CAN_FAIL as fault:
        reason = _reason(fault)
        return CompanionOutcome(
            _record(plan, "failed", reason), warning=_warning(plan.name, reason)
        )
    record = _record(plan, "run", "", time.monotonic() - started)
    return CompanionOutcome(record, tuple(rows), cut=changed.data.cut or (0, 0))


def _rows(
    plan: CompanionPlan,
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    splits: Sequence[UserSplit],
) -> list[EvaluatedRow]:
    recommender = build_recommender(config, dataset.catalogue)
    scorer = run_scorer(recommender, folder)
    data = config.data
    if plan.name == TIME_CUT:
        splits = hold_out(
            dataset.interactions,
            dataset.catalogue,
            split=data.split,
            seed=data.seed,
            cut=data.cut,
            users=dataset.users,
        )
    row = EvaluatedRow(
        name="fedrec" if plan.name == TIME_CUT else plan.row,
        kind=plan.kind,
        metrics=evaluate_scorer(scorer, splits, "test"),
        mode=config.privacy.mode,
        epsilon=config.privacy.target_epsilon if config.is_private else None,
        note=plan.note,
        is_reference=True,
    )
    if plan.name != TIME_CUT:
        return [row]
    return [row, *baseline_rows(config, recommender, splits)]


def fairness_beside(
    metrics: MetricsFile,
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    listener: ProgressListener,
) -> MetricsFile:
    """Add the fairness tables, and what came of the companion that they are made of.

    Args:
        metrics: of the run, with its other companions.
        config: of the run.
        folder: of the run.
        dataset: the pooled data.
        listener: hears that the companion starts.
    """
    started, shown, warnings = time.monotonic(), metrics, metrics.warnings
    if config.data.split == "last_fifth":
        status, reason = "not_needed", "the run itself has this split"
    elif "last_fifth" in config.companions:
        status, reason = "run", ""
    else:
        status, reason = "not_run", _not_asked(config)
    try:
        shown = with_fairness(metrics, config, folder, dataset, listener)
    except WHAT_CAN_FAIL as fault:
        status, reason = "failed", _reason(fault)
        warnings = (*warnings, _warning("last_fifth", reason))
    seconds = time.monotonic() - started if status == "run" else None
    record = CompanionRecord.model_validate(
        {
            "name": "last_fifth",
            "row": "fairness tables",
            "status": status,
            "reason": reason,
            "seconds": seconds,
        }
    )
    changes = {"companions": (*metrics.companions, record), "warnings": warnings}
    return shown.model_copy(update=changes)


def _not_asked(config: RunConfig) -> str:
    return f"evaluation.companions = {config.evaluation.companions or 'none'}"


def _reason(fault: Exception) -> str:
    return " ".join(str(fault).split()) or type(fault).__name__


def _warning(name: str, reason: str) -> str:
    return (
        f"The companion run {name} failed, so its row is missing: {reason}; its records are in "
        f"{COMPANIONS_FOLDER}/{name}."
    )


def _record(
    plan: CompanionPlan, status: str, reason: str, seconds: float | None = None
) -> CompanionRecord:
    return CompanionRecord.model_validate(
        {
            "name": plan.name,
            "row": plan.row,
            "status": status,
            "reason": reason,
            "seconds": seconds,
        }
    )
