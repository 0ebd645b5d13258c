"""What `fedrec simulate` says at its end: a short table, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.config import PrivacyConfig
from common.unit_texts import UNIT_WORDS
from simulations.report.metrics_file import (
    ImpressionsRecord,
    IntervalRecord,
    MetricsFile,
    RatingsRecord,
)
from simulations.report.number_text import (
    delta_text,
    epsilon_text,
    interval_text,
    metric_text,
    seconds_text,
)

_COLUMNS = ("hr_10", "ndcg_10")


@dataclass(frozen=True)
class RunSummary:
    """What there is to say about a finished run.

    Attributes:
        run_folder: where everything is.
        metrics: the content of ``metrics.json``; None without the lab's evaluation.
        privacy: the run's settings of privacy.
        epsilon: of the whole run, the largest of any site; None without privacy.
        delta: at which `epsilon` holds.
        seconds: wall-clock time of the run.
        trusted: who must be trusted for the claim.
    """

    run_folder: Path
    metrics: dict[str, Any] | None
    privacy: PrivacyConfig
    epsilon: float | None
    delta: float
    seconds: float
    trusted: str = ""

    @property
    def report(self) -> Path:
        """The report's file."""
        return self.run_folder / "report.html"


def show_result(console: Console, summary: RunSummary) -> None:
    """Print accuracy with intervals, the privacy spent, the time and where the report is."""
    if summary.metrics is not None:
        found = MetricsFile.model_validate(summary.metrics)
        console.print(_results(found))
        for line in _beside(found):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    lines = {
        "privacy": privacy_line(summary.privacy, summary.epsilon, summary.delta),
        "trusted": summary.trusted,
        "time": seconds_text(summary.seconds),
        "report": str(summary.report),
    }
    for name, line in lines.items():
        if not line:
            continue
        console.print(f"{name + ':':9}{line}", markup=False, highlight=False, soft_wrap=True)


def _results(found: MetricsFile) -> Table:
    caption = f"{found.stage}, {found.rows[0].users} users, mean [95% interval]; lab only"
    table = Table("", "HR@10", "NDCG@10", caption=caption)
    for row in found.rows:
        table.add_row(row.name, *(_interval(getattr(row, name)) for name in _COLUMNS))
    return table


def _beside(found: MetricsFile) -> Iterator[str]:
    """What stands beside the table: sampled negatives, the time cut, companions left out."""
    if found.sampled is not None and found.sampled.rows:
        model = found.sampled.rows[0]
        yield (
            f"sampled:  HR@10 {_interval(model.hr_10)}, NDCG@10 {_interval(model.ndcg_10)} "
            f"among {found.sampled.negatives} negatives ({found.sampled.label})"
        )
    if found.time_cut is not None:
        row = found.time_cut.rows[0]
        yield (
            f"time cut: HR@10 {_interval(row.hr_10)}, NDCG@10 {_interval(row.ndcg_10)} "
            f"of {found.time_cut.users} users ({found.time_cut.left_out} left out)"
        )
    if found.impressions is not None:
        yield from _impressions(found.impressions)
    if found.ratings is not None:
        yield from _ratings(found.ratings)
    for companion in found.companions:
        if companion.status in ("not_run", "failed"):
            yield f"{companion.status.replace('_', ' ')}:  {companion.row} ({companion.reason})"


def _impressions(found: ImpressionsRecord) -> Iterator[str]:
    """A line for each row: what was clicked among what was shown."""
    yield f"shown:    {found.impressions} impressions of {found.users} users"
    for row in found.rows:
        loss = "" if row.log_loss is None else f", log loss {row.log_loss:.4f}"
        yield (
            f"  {row.name}: AUC {_interval(row.auc)}, MRR {_interval(row.mrr)}, "
            f"nDCG@5 {_interval(row.ndcg_5)}, nDCG@10 {_interval(row.ndcg_10)}, "
            f"pooled AUC {row.pooled_auc:.4f}{loss}"
        )
    if found.base_log_loss is not None:
        yield f"  log loss of the mean share of clicks: {found.base_log_loss:.4f}"


def _ratings(found: RatingsRecord) -> Iterator[str]:
    """A line for each row: errors at the held-out ratings."""
    yield f"ratings:  {found.ratings} held-out ratings of {found.users} users"
    for row in found.rows:
        yield f"  {row.name}: RMSE {_interval(row.rmse)}, MAE {_interval(row.mae)}"
    yield f"  RMSE less that of the items' means: {_interval(found.rmse_less_item_mean)}"


def result_json(summary: RunSummary) -> str:
    """Return the result as one line of strict JSON."""
    figures: dict[str, Any] = dict.fromkeys(_COLUMNS)
    if summary.metrics is not None:
        model = MetricsFile.model_validate(summary.metrics).rows[0]
        figures = {name: getattr(model, name).model_dump() for name in _COLUMNS}
    privacy = summary.privacy
    content = {
        "schema_version": 1,
        "run_folder": str(summary.run_folder),
        "report": str(summary.report),
        **figures,
        "epsilon": summary.epsilon,
        "delta": summary.delta,
        "unit": privacy.unit,
        "neighbouring_relation": "add_or_remove_one",
        "unit_note": UNIT_WORDS[privacy.unit].note,
        "mode": privacy.mode,
        "trusted": summary.trusted,
        "insecure_seeded_noise": privacy.insecure_seeded_noise,
        "seconds": summary.seconds,
        "metrics": summary.metrics,
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def privacy_line(privacy: PrivacyConfig, epsilon: float | None, delta: float) -> str:
    """Return the claim in one line: ε, δ, unit, relation, sampling and what it covers."""
    if epsilon is None:
        return f"none (privacy.mode = {privacy.mode}): the server saw exact updates"
    words = UNIT_WORDS[privacy.unit]
    sampling = "Poisson sampling" if privacy.sample_rate < 1 else f"all {words.many} in every step"
    claim = (
        f"ε = {epsilon_text(epsilon)} at δ = {delta_text(delta)} for each {privacy.unit}, "
        f"add or remove one, over all releases of the run; {sampling}; PRV accountant"
    )
    if words.note:
        claim += f". {words.note}"
    if privacy.insecure_seeded_noise:
        return "none: the noise came from a seed (privacy.insecure_seeded_noise), for tests only"
    return claim


def _interval(interval: IntervalRecord) -> str:
    return f"{metric_text(interval.mean)} {interval_text(interval)}".rstrip()
