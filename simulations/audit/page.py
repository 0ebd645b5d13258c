"""`audit.html`: one self-contained page, drawn from `audit.json` and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

from markupsafe import Markup

from simulations.report.figure import Figure
from simulations.report.number_text import delta_text, epsilon_text
from simulations.report.page import page_style
from simulations.report.svg_charts import IntervalRow, interval_chart
from simulations.report.templating import templates

JsonObject = dict[str, Any]
LEDGERS_SHOWN = 50
VERDICTS = {"pass": "not refuted", "fail": "REFUTED", "not_testable": "not testable"}


def audit_page(data: JsonObject) -> str:
    """Render the page.

    Args:
        data: the content of `audit.json`.

    Returns:
        HTML without any reference to another file or host.
    """
    return (
        templates()
        .get_template("audit.html.j2")
        .render(
            **data,
            style=Markup(page_style()),
            headline=headline(data),
            counts=_counts(data),
            figure=_epsilon_figure(data),
            bounds=[each for each in data["findings"] if each["epsilon_lower_bound"] is not None],
            verdicts=VERDICTS,
            ledgers_shown=LEDGERS_SHOWN,
        )
    )


def headline(data: JsonObject) -> str:
    """What came of the audit, in one sentence."""
    counts = _counts(data)
    tried = counts["pass"] + counts["fail"]
    untested = f"; {counts['not_testable']} could not be made" if counts["not_testable"] else ""
    if data["verdict"] == "refuted":
        return f"The claim is refuted: {counts['fail']} of {tried} attempts succeeded{untested}."
    if data["verdict"] == "no_claim":
        return f"The run makes no privacy claim that could be refuted{untested}."
    if data["verdict"] == "not_tested":
        return f"Nothing was tested{untested}."
    claim = data["claim"]
    return (
        f"{tried} attempts to refute ε = {epsilon_text(claim['epsilon'])} per {claim['unit']} "
        f"(δ = {delta_text(claim['delta'])}) did not succeed{untested}."
    )


def _counts(data: JsonObject) -> dict[str, int]:
    found = Counter(each["verdict"] for each in data["findings"] if each["gate"])
    return {name: found[name] for name in VERDICTS}


def _epsilon_figure(data: JsonObject) -> Figure | None:
    """The claim, its other readings, and every lower bound on one axis; None without a claim."""
    restated = data["guarantee"]
    if restated is None:
        return None
    rows = [("claimed (PRV)", data["claim"]["epsilon"], "a")]
    rows += [(line["name"], line["epsilon"], "b") for line in restated["lines"]]
    rows += [
        (line["name"], line["epsilon"], "b")
        for line in restated["beside"]
        if not line["name"].endswith("recorded")
    ]
    rows += [
        (f"lower bound: {each['name']}", each["epsilon_lower_bound"], "c")
        for each in data["findings"]
        if each["epsilon_lower_bound"] is not None
    ]
    shown = [(name, value, style) for name, value, style in rows if value is not None]
    drawing = interval_chart(
        "ε under several readings of the same releases",
        f"ε at δ = {delta_text(restated['delta'])}",
        [IntervalRow(name, value, None, None, epsilon_text(value), s) for name, value, s in shown],
    )
    return Figure(
        title="ε under several readings",
        note=f"per {data['claim']['unit']}, over all releases of {restated['site']}",
        drawing=Markup(drawing),
        columns=("reading", "ε"),
        rows=[(name, epsilon_text(value)) for name, value, _ in rows],
    )
