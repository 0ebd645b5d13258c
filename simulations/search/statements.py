"""What a search says in words and rows, the same on the terminal and on a Markdown page."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from simulations.comparison.result_table import verdict
from simulations.report.metrics_file import IntervalRecord
from simulations.report.number_text import delta_text, interval_text, metric_text
from simulations.search.search_file import SearchFile, SearchPoint
from simulations.sweeps.summary import point_label

NOT_COVERED = "Settings chosen on non-private validation are not covered by ε."


class PointRow(NamedTuple):
    """One point as text; `verdict` says how it stands to the best."""

    label: str
    seeds: str
    hr_10: str
    ndcg_10: str
    less_best: str
    verdict: str


def point_rows(found: SearchFile) -> list[PointRow]:
    """Return the points as rows, the best first."""
    return [_row(found, point) for point in found.points]


def command_line(found: SearchFile) -> str:
    """Return the command that the search was made with, but for where it went."""
    sets = [f"--set {shlex.quote(each)}" for each in found.overrides]
    return " ".join(["fedrec search", shlex.quote(found.name), *sets, f"--seeds {found.seeds}"])


def claim_text(found: SearchFile) -> str:
    """Return the budget at which the points were compared."""
    if found.target_epsilon is None:
        return "no privacy"
    delta = delta_text(found.target_delta)
    return f"{found.mode}, ε = {found.target_epsilon:g} per {found.unit} at δ = {delta}"


def ground_text(found: SearchFile) -> str:
    """Return what was judged, and what the intervals say and do not say."""
    result = next((point.result for point in found.points if point.result), None)
    if result is None:
        return "no run is finished"
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    return f"validation, {result.dataset}, {result.split}, {result.users} users, {seeds}; lab only"


def interval_note(found: SearchFile) -> str:
    """Return what the intervals hold."""
    over = (
        "users; of one seed they say nothing about other noise, ties or initial weights"
        if found.seeds == 1
        else f"users and seeds; {found.seeds} seeds say little about the noise"
        if found.seeds < 5
        else "users and seeds"
    )
    return (
        f"Intervals: 95%, bootstrap over {over} ({found.bootstrap_resamples} resamples). Points "
        "are paired over the same users and seeds. The best of many is too good by chance: its "
        "own figure is no estimate for the test part."
    )


def finding_lines(found: SearchFile) -> list[str]:
    """Return what came out: the best point, what it gains, and what cannot be told from it."""
    best = found.best_point
    if best is None:
        return ["best: none, because no point has all its seeds"]
    lines = [f"best: {best.label}"]
    if found.best_less_own is not None:
        gain = found.best_less_own.ndcg_10
        text = verdict(gain)
        said = "within noise" if text == "not distinguishable" else text
        lines[0] += f", NDCG@10 {_cell(gain, signed=True)} over the scenario's own: {said}"
    elif best.is_own:
        lines[0] += ": no other point is above it"
    tied = [p.label for p in found.points if p.less_best and _is_tied(p) and p.is_complete]
    if tied:
        lines.append(f"within noise of the best: {'; '.join(tied)}")
    return lines


def fault_lines(found: SearchFile) -> list[str]:
    """Return a line for each run that failed."""
    return [
        f"{point.name} seed {run.seed} failed: {run.fault}"
        for point in found.points
        for run in point.runs
        if run.status == "failed"
    ]


def own_text(found: SearchFile) -> str:
    """Return what the searched keys are in the scenario itself."""
    return f"The scenario's own: {point_label(found.own)}"


def _row(found: SearchFile, point: SearchPoint) -> PointRow:
    done = sum(run.status == "finished" for run in point.runs)
    seeds = str(done) if point.is_complete else f"{done} of {len(point.runs)}"
    own = " (own)" if point.is_own and point.settings else ""
    if point.result is None:
        return PointRow(point.label + own, seeds, "–", "–", "", "no result")
    less = "" if point.less_best is None else _cell(point.less_best.ndcg_10, signed=True)
    return PointRow(
        point.label + own,
        seeds,
        _cell(point.result.hr_10),
        _cell(point.result.ndcg_10),
        less,
        _stand(found, point),
    )


def _stand(found: SearchFile, point: SearchPoint) -> str:
    if point.name == found.best:
        return "best"
    if not point.is_complete:
        return "incomplete"
    return "within noise" if _is_tied(point) else "below"


def _is_tied(point: SearchPoint) -> bool:
    return point.less_best is not None and verdict(point.less_best.ndcg_10) != "below"


def _cell(interval: IntervalRecord, *, signed: bool = False) -> str:
    mean = metric_text(interval.mean, signed=signed)
    return f"{mean} {interval_text(interval, signed=signed)}".rstrip()
