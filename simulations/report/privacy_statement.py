"""`PRIVACY.md`: the full statement of what a run promises each user, and what it does not."""

from __future__ import annotations

from simulations.report.report_data import JsonObject
from simulations.report.templating import templates


def privacy_statement(data: JsonObject) -> str:
    """Render the statement.

    Args:
        data: the content of `report.json`.

    Returns:
        Markdown. Every ε in it is a total over all rounds, never that of one round.
    """
    sites = data["sites"]
    worst = max(sites, key=_spent) if sites else None
    return templates().get_template("privacy.md.j2").render(**data, worst=worst)


def _spent(site: JsonObject) -> float:
    totals = [line["prv"] for line in site["recomputed"]]
    if None in totals:
        return float("inf")
    return float(max(site["recorded_prv"] or 0.0, *totals))
