"""Figures of what was gained: rows with intervals, utility against ε, curves over rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from simulations.report.epsilon_chart import EpsilonPoint, EpsilonSeries, Reference, epsilon_chart
from simulations.report.figure import Figure
from simulations.report.metrics_file import IntervalRecord
from simulations.report.number_text import epsilon_text, interval_text, metric_text
from simulations.report.report_data import JsonObject
from simulations.report.svg_charts import IntervalRow, Line, interval_chart, line_chart

METRICS = (("hr_10", "HR@10"), ("ndcg_10", "NDCG@10"))
STYLES = {"model": "a", "ablation": "c", "dp_popularity": "dp", "text_floor": "text"}
"""Mark and colour by the kind of a row; every other kind is a grey ring."""


def bounds_text(interval: JsonObject, *, signed: bool = False) -> str:
    """Print the bounds of an interval as it stands in `report.json`."""
    return interval_text(IntervalRecord.model_validate(interval), signed=signed) or "–"


def mark_of(label: str, interval: JsonObject, style: str, *, signed: bool = False) -> IntervalRow:
    """Turn an interval of `report.json` into a row of a chart."""
    printed = metric_text(interval["mean"], signed=signed)
    return IntervalRow(label, interval["mean"], interval["low"], interval["high"], printed, style)


def interval_figure(title: str, note: str, axis: str, rows: Sequence[IntervalRow]) -> Figure:
    """Draw rows with intervals, and tabulate the same rows."""
    signed = any(row.text.startswith(("+", "-")) for row in rows)
    cells = [
        (row.label, row.text, bounds_text({"mean": row.mean, "low": row.low, "high": row.high},
                                          signed=signed))
        for row in rows
    ]  # fmt: skip
    drawing = Markup(interval_chart(f"{title}: {note}", axis, rows))
    return Figure(title, note, drawing, ("row", "mean", "95% interval"), cells)


def result_figures(results: JsonObject) -> dict[str, Figure]:
    """Draw the model and every baseline, and the paired differences from the private floors."""
    figures = {}
    for metric, name in METRICS:
        marks = [_result_mark(row, metric) for row in results["rows"]]
        figures[f"results_{metric}"] = interval_figure(
            f"{name}, {results['stage']}",
            f"mean and 95% interval over {results['rows'][0]['users']} users",
            name,
            marks,
        )
        differences = [
            _difference_mark(row, found, metric)
            for row in results["rows"]
            for found in [*row["comparisons"], *_parts(row)]
        ]
        if differences:
            figures[f"differences_{metric}"] = interval_figure(
                f"Δ{name}",
                "paired over the same users; an interval right of 0 is more than chance",
                f"difference in {name}",
                differences,
            )
    return figures


def _parts(row: JsonObject) -> list[JsonObject]:
    """The model's differences from itself with a part left out, and from pooled training."""
    found = row.get("differences", ()) if row["kind"] == "model" else ()
    return [each for each in found if each["other_kind"] in ("ablation", "central")]


def _result_mark(row: JsonObject, metric: str) -> IntervalRow:
    if row["failed_against"]:
        return mark_of(f"{row['name']} – FAILED", row[metric], "failed")
    return mark_of(row["name"], row[metric], _style(row))


def _difference_mark(row: JsonObject, found: JsonObject, metric: str) -> IntervalRow:
    failed = found["other"] in row["failed_against"]
    label = f"{row['name']} – {found['other']}" if row["kind"] != "model" else found["other"]
    style = "failed" if failed else STYLES.get(found["other_kind"], "b")
    return mark_of(f"from {label}", found[metric], style, signed=True)


def epsilon_figures(against: JsonObject) -> dict[str, Figure]:
    """Draw utility against ε from `utility_by_epsilon`; nothing where no row has a finite ε."""
    figures: dict[str, Figure] = {}
    if all(p["epsilon"] is None for one in against["series"] for p in one["points"]):
        return figures
    for metric, name in METRICS:
        series = [
            EpsilonSeries(
                one["name"],
                [_point(p, metric) for p in one["points"]],
                STYLES.get(one["kind"], "b"),
            )
            for one in against["series"]
        ]
        references = [Reference(r["name"], r[metric]["mean"]) for r in against["references"]]
        drawing = epsilon_chart(
            f"{name} against ε", f"ε of each {against['unit']}, log scale", name, series, references
        )
        note = "mean and 95% interval; dashed: no privacy, pooled data or untrained"
        cells = [
            (one["name"], _budget(p["epsilon"]), metric_text(p[metric]["mean"]),
             bounds_text(p[metric]))
            for one in against["series"] for p in one["points"]
        ]  # fmt: skip
        cells += [
            (r["name"], "–", metric_text(r[metric]["mean"]), bounds_text(r[metric]))
            for r in against["references"]
        ]
        figures[f"epsilon_{metric}"] = Figure(
            f"{name} against ε", note, Markup(drawing),
            ("row", "ε (target)", "mean", "95% interval"), cells,
        )  # fmt: skip
    return figures


def _style(row: JsonObject) -> str:
    return STYLES.get(row["kind"], "b")


def _point(point: JsonObject, metric: str) -> EpsilonPoint:
    found = point[metric]
    epsilon = math.inf if point["epsilon"] is None else point["epsilon"]
    return EpsilonPoint(epsilon, found["mean"], found["low"], found["high"])


def _budget(epsilon: float | None) -> str:
    return "∞" if epsilon is None else f"{epsilon:g}"


def round_figures(data: JsonObject) -> dict[str, Figure]:
    """Draw the validation means and the total ε over the server rounds."""
    figures = {}
    for metric, name in METRICS:
        points = [
            (p["server_round"], p[metric])
            for p in data["utility_by_round"]
            if p[metric] is not None
        ]
        if points:
            title = f"{name}, validation"
            line = Line("last round", points, "a", metric_text(points[-1][1]))
            drawing = line_chart(f"{title} over server rounds", "server round", [line], name)
            cells = [(f"{x:g}", metric_text(y)) for x, y in points]
            figures[f"curve_{metric}"] = Figure(
                title, data["validation_note"], Markup(drawing), ("server round", name), cells
            )
    if data["epsilon_by_round"]["points"]:
        figures["epsilon_by_round"] = _spent_figure(data)
    return figures


def _spent_figure(data: JsonObject) -> Figure:
    points, target = data["epsilon_by_round"]["points"], data["epsilon_by_round"]["target_epsilon"]

    def line(name: str, key: str, style: str) -> Line:
        last = epsilon_text(points[-1][key])
        return Line(name, [(p["server_round"], p[key]) for p in points], style, last)

    lines = [line("site that spent most", "highest", "a")]
    if any(p["lowest"] < p["highest"] - 0.005 for p in points):
        lines.append(line("site that spent least", "lowest", "b"))
    ends = (points[0]["server_round"], points[-1]["server_round"])
    lines.append(Line("target", [(x, target) for x in ends], "limit", f"{target:g}"))
    claim = data["claim"]
    return Figure(
        "Total ε spent so far",
        f"by {data['unit_words']['one']}; PRV, δ as in the claim",
        Markup(line_chart("Total ε over server rounds", "server round", lines,
                          f"total ε per {claim['unit']}")),
        ("server round", "highest site", "lowest site"),
        [
            (f"{p['server_round']}", epsilon_text(p["highest"]), epsilon_text(p["lowest"]))
            for p in points
        ],
    )  # fmt: skip
