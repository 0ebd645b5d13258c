"""Figures of what variety of lists costs: accuracy over each kind of variety."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from simulations.report.diversity_file import CurveRecord
from simulations.report.figure import Figure
from simulations.report.number_text import interval_text, metric_text
from simulations.report.report_data import JsonObject
from simulations.report.svg_charts import Line, line_chart

WAYS = {
    "plain": "plain",
    "mmr": "MMR",
    "calibrated": "calibrated genres",
    "popularity": "less popular",
    "cap": "exposure cap",
}
STYLES = {"mmr": "a", "calibrated": "b", "popularity": "limit", "cap": "c"}
AXES = {
    "distance": "mean distance of two items of a list",
    "miscalibration": "divergence of a list's genres from the history's",
    "coverage": "share of the catalogue in some list",
}


def diversity_figures(diversity: JsonObject | None) -> dict[str, Figure]:
    """Draw the trade-off curves, where the run's folder has them.

    Args:
        diversity: content of `diversity.json`, or None.
    """
    if diversity is None:
        return {}
    points = [CurveRecord.model_validate(point) for point in diversity["points"]]
    return {f"variety_{axis}": curve_figure(points, axis) for axis in AXES}


def curve_figure(points: Sequence[CurveRecord], axis: str) -> Figure:
    """NDCG@10 over one figure of variety, a line for each way, from the plain lists on."""
    plain = points[0]
    lines = []
    for method, found in groupby(points[1:], key=lambda point: point.method):
        way = [plain, *found]
        places = sorted((getattr(point, axis).mean, point.ndcg.mean) for point in way)
        lines.append(Line(WAYS[method], places, STYLES[method]))
    label = AXES[axis]
    drawing = Markup(line_chart(f"NDCG@10 and {label}", label, lines, "NDCG@10"))
    columns = ("way", "strength", label, "NDCG@10", "difference", "95% interval")
    return Figure(
        f"NDCG@10 and {label}",
        "each line begins at the plain lists",
        drawing,
        columns,
        [_row(point, axis) for point in points],
    )


def _row(point: CurveRecord, axis: str) -> tuple[str, ...]:
    return (
        WAYS[point.method],
        f"{point.strength:g}" if point.strength else "–",
        metric_text(getattr(point, axis).mean),
        metric_text(point.ndcg.mean),
        metric_text(point.difference.mean, signed=True),
        interval_text(point.difference, signed=True) or "–",
    )
