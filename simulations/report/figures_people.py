"""Figures of who is served how well, and of what each site spent."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from simulations.report.figure import Figure
from simulations.report.figures_utility import interval_figure, mark_of
from simulations.report.number_text import epsilon_text
from simulations.report.report_data import JsonObject
from simulations.report.svg_charts import IntervalRow, interval_chart

SITES_DRAWN = 30


def group_figures(results: JsonObject) -> dict[str, Figure]:
    """Draw the model's utility by each attribute of its users, best group first."""
    groups = results["groups"]
    model = groups[0]["row"] if groups else None
    note = f"{model}, split {results['groups_split']}; mean and 95% interval"
    return {
        f"groups_{record['attribute']}": interval_figure(
            f"NDCG@10 by {record['attribute']}", note, "NDCG@10", _group_marks(record["groups"])
        )
        for record in groups
        if record["row"] == model
    }


def _group_marks(groups: Sequence[JsonObject]) -> list[IntervalRow]:
    return [mark_of(f"{g['group']} (n = {g['n']})", g["utility"], "a") for g in groups]


def fairness_figures(fairness: JsonObject | None) -> dict[str, Figure]:
    """Draw utility by site, of niche users, and what each group lost to privacy."""
    if not fairness:
        return {}
    figures = {}
    for record in _of_model(fairness, "sites"):
        if len(record["sites"]) <= SITES_DRAWN:
            figures["fairness_sites"] = interval_figure(
                "NDCG@10 by site", _note(record), "NDCG@10", _group_marks(record["sites"])
            )
    for record in _of_model(fairness, "niche"):
        name = f"niche_{record['by'].replace(' ', '_')}"
        figures[name] = interval_figure(
            f"NDCG@10 by {record['by']}", _note(record), "NDCG@10", _group_marks(record["groups"])
        )
    for number, record in enumerate(fairness["impact"]):
        figures[f"impact_{number}"] = interval_figure(
            f"NDCG@10 lost to privacy at ε = {record['epsilon']:g}, by {record['attribute']}",
            f"{record['reference']} minus {record['row']}",
            "loss in NDCG@10",
            [
                mark_of(f"{g['group']} (n = {g['n']})", g["loss"], "b", signed=True)
                for g in record["groups"]
            ],
        )
    return figures


def _of_model(fairness: JsonObject, table: str) -> list[JsonObject]:
    model = next((row["row"] for row in fairness["rows"] if row["kind"] == "model"), None)
    return [record for record in fairness[table] if record["row"] == model]


def _note(record: JsonObject) -> str:
    return f"{record['row']}, split last_fifth; mean and 95% interval"


def site_figures(data: JsonObject) -> dict[str, Figure]:
    """Draw what each site spent, where sites differ; where all spent the same, words do."""
    sites = data["sites"]
    spent = [site["recorded_prv"] or 0.0 for site in sites]
    differ = len(set(map(epsilon_text, spent))) > 1
    if data["claim"]["status"] != "private" or not differ or len(sites) > SITES_DRAWN:
        return {}
    marks = [
        IntervalRow(site["site"], value, None, None, epsilon_text(value))
        for site, value in zip(sites, spent, strict=True)
    ]
    title = "Total ε by site"
    return {
        "epsilon_by_site": Figure(
            title,
            "of the site's ledger, over its whole life; PRV",
            Markup(interval_chart(title, "total ε of the site's ledger", marks)),
            ("site", "total ε"),
            [(mark.label, mark.text) for mark in marks],
        )
    }
