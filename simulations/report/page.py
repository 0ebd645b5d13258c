"""`report.html`: one self-contained page, drawn from `report.json` and nothing else."""

from __future__ import annotations

from importlib.resources import files

from markupsafe import Markup

from simulations.report.number_text import epsilon_text, metric_text
from simulations.report.report_data import JsonObject
from simulations.report.svg_charts import (
    IntervalRow,
    Line,
    interval_chart,
    line_chart,
)
from simulations.report.templating import templates

SITES_SHOWN = 50
SITES_DRAWN = 30


def report_page(data: JsonObject) -> str:
    """Render the page.

    Args:
        data: the content of `report.json`.

    Returns:
        HTML without any reference to another file or host.
    """
    style = files("simulations.report").joinpath("templates/style.css").read_text("utf-8")
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            **data,
            style=Markup(style),
            charts={name: Markup(svg) for name, svg in _charts(data).items()},
            shown_sites=sorted(data["sites"], key=_most_spent_first)[:SITES_SHOWN],
        )
    )


def _most_spent_first(site: JsonObject) -> tuple[float, str]:
    spent = site["recomputed"][2]["prv"]
    return (-float("inf") if spent is None else -spent, site["site"])


def _charts(data: JsonObject) -> dict[str, str]:
    charts = {}
    if data["results"]:
        for metric, name in (("hr_10", "HR@10"), ("ndcg_10", "NDCG@10")):
            charts[f"results_{metric}"] = interval_chart(
                f"{name} of the model and the baselines, mean and 95% interval over users",
                f"{name}, {data['results']['stage']}",
                [_row_marks(row, metric) for row in data["results"]["rows"]],
            )
        charts |= _group_charts(data["results"]["groups"])
    curve = data["utility_by_round"]
    for metric, name in (("hr_10", "HR@10"), ("ndcg_10", "NDCG@10")):
        points = [(p["server_round"], p[metric]) for p in curve if p[metric] is not None]
        if points:
            charts[f"curve_{metric}"] = line_chart(
                f"{name} on validation over server rounds",
                "server round",
                [Line(name, points, "a")],
            )
    return charts | _epsilon_charts(data)


def _row_marks(row: JsonObject, metric: str) -> IntervalRow:
    interval = row[metric]
    style = "failed" if row["failed_against"] else ("a" if row["kind"] == "model" else "b")
    return IntervalRow(
        row["name"],
        interval["mean"],
        interval["low"],
        interval["high"],
        metric_text(interval["mean"]),
        style,
    )


def _group_charts(groups: list[JsonObject]) -> dict[str, str]:
    charts = {}
    model = groups[0]["row"] if groups else None
    for record in groups:
        if record["row"] == model:
            charts[f"groups_{record['attribute']}"] = interval_chart(
                f"NDCG@10 by {record['attribute']}",
                f"NDCG@10 by {record['attribute']}",
                [
                    IntervalRow(
                        f"{g['group']} (n = {g['n']})",
                        g["utility"]["mean"],
                        g["utility"]["low"],
                        g["utility"]["high"],
                        metric_text(g["utility"]["mean"]),
                    )
                    for g in record["groups"]
                ],
            )
    return charts


def _epsilon_charts(data: JsonObject) -> dict[str, str]:
    charts = {}
    points = data["epsilon_by_round"]["points"]
    if points:
        lines = [Line("highest site", [(p["server_round"], p["highest"]) for p in points], "a")]
        if any(p["lowest"] < p["highest"] - 0.005 for p in points):
            lowest = [(p["server_round"], p["lowest"]) for p in points]
            lines.insert(0, Line("lowest site", lowest, "b"))
        target = data["epsilon_by_round"]["target_epsilon"]
        ends = (points[0]["server_round"], points[-1]["server_round"])
        lines.append(Line("target", [(x, target) for x in ends], "limit"))
        charts["epsilon_by_round"] = line_chart("total ε over server rounds", "server round", lines)
    if data["claim"]["status"] == "private" and 1 < len(data["sites"]) <= SITES_DRAWN:
        charts["epsilon_by_site"] = interval_chart(
            "total ε by site",
            "total ε of the site's ledger",
            [
                IntervalRow(
                    site["site"],
                    site["recorded_prv"] or 0.0,
                    None,
                    None,
                    epsilon_text(site["recorded_prv"]),
                )
                for site in data["sites"]
            ],
        )
    return charts
