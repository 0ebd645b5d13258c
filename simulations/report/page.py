"""`report.html`: one self-contained page, drawn from `report.json` and nothing else."""

from __future__ import annotations

from importlib.resources import files

from markupsafe import Markup

from simulations.report.figure import Figure
from simulations.report.figures_lists import diversity_figures
from simulations.report.figures_people import fairness_figures, group_figures, site_figures
from simulations.report.figures_utility import epsilon_figures, result_figures, round_figures
from simulations.report.report_data import JsonObject
from simulations.report.templating import templates

SITES_SHOWN = 50
BESIDE = ("fairness", "impressions", "ratings", "sampled", "time_cut", "companions")
"""Tables of `metrics.json` that a run need not have."""
STYLES = ("style.css", "charts.css", "print.css")


def report_page(data: JsonObject) -> str:
    """Render the page.

    Args:
        data: the content of `report.json`.

    Returns:
        HTML without any reference to another file or host.
    """
    drawn = figures(data)
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            **data,
            style=Markup(page_style()),
            figures=drawn,
            beside={name: (data["results"] or {}).get(name) for name in BESIDE},
            impact_names=[name for name in drawn if name.startswith("impact_")],
            shown_sites=sorted(data["sites"], key=_most_spent_first)[:SITES_SHOWN],
        )
    )


def page_style() -> str:
    """The style sheet of the page, for screens, charts and paper."""
    folder = files("simulations.report").joinpath("templates")
    return "\n".join(folder.joinpath(name).read_text("utf-8") for name in STYLES)


def figures(data: JsonObject) -> dict[str, Figure]:
    """Draw every figure that the data have numbers for, by name."""
    results = data["results"]
    of_results = {}
    if results:
        of_results = (
            result_figures(results)
            | epsilon_figures(data["utility_by_epsilon"])
            | group_figures(results)
            | fairness_figures(results.get("fairness"))
        )
    of_lists = diversity_figures(data["diversity"])
    return of_results | of_lists | round_figures(data) | site_figures(data)


def _most_spent_first(site: JsonObject) -> tuple[float, str]:
    spent = site["recomputed"][2]["prv"]
    return (-float("inf") if spent is None else -spent, site["site"])
