"""``fedrec privacy``: what a mechanism costs, what a budget affords, what a run recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.errors import PrivacyError, RunFolderError

if TYPE_CHECKING:
    from common.recorded_epsilon import SiteSpending
    from simulations.privacy_cost import PrivacyCost

EXAMPLES = (
    "Examples:\n\n"
    "fedrec privacy --sigma 1 --rate 0.01 --steps 1000 --delta 1e-5\n\n"
    "fedrec privacy --target-epsilon 8 --rate 0.1 --steps 50    (finds sigma)\n\n"
    "fedrec privacy --target-epsilon 8 --sigma 2 --rate 0.1     (finds the number of steps)\n\n"
    "fedrec privacy --releases runs/NAME/releases.jsonl"
)

Sigma = Annotated[
    float | None,
    typer.Option(help="σ: noise standard deviation ÷ the norm bound of one unit."),
]
Rate = Annotated[
    float | None, typer.Option(help="q in (0, 1]: Poisson sampling rate of units; 1: everybody.")
]
Steps = Annotated[
    int | None, typer.Option(help="Noised steps: rounds times federation.local_steps.")
]
Delta = Annotated[float | None, typer.Option(help="δ in (0, 1). Default: 1e-4.")]
Target = Annotated[
    float | None,
    typer.Option(help="ε to be met: the one of --sigma, --rate, --steps left out is found."),
]
Releases = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A run's releases.jsonl: recompute every site's ε from its events alone.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")
]


def privacy(
    sigma: Sigma = None,
    rate: Rate = None,
    steps: Steps = None,
    delta: Delta = None,
    target_epsilon: Target = None,
    releases: Releases = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a mechanism costs, what a budget affords, or what a run really spent.

    Every ε is for one user, add or remove all of their data, over all steps together.
    Exit code 2 where a site recorded less than its releases cost.
    """
    if releases is not None:
        if any(given is not None for given in (sigma, rate, steps, delta, target_epsilon)):
            raise PrivacyError("--releases FILE is answered from the file alone; give nothing else")
        _check_releases(releases, as_json=as_json)
        return
    from simulations.privacy_cost import Asked, privacy_cost

    asked = Asked(sigma, rate, steps, 1e-4 if delta is None else delta, target_epsilon)
    cost = privacy_cost(asked)
    if as_json:
        print(json.dumps(cost.to_json(), allow_nan=False))
    else:
        _show_cost(Console(highlight=False), cost)


def _check_releases(path: Path, *, as_json: bool) -> None:
    from common.recorded_epsilon import check_recorded, spending_by_site
    from simulations.report.run_files import read_releases

    file = path / "releases.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise RunFolderError(f"there is no file {file}; give a run's releases.jsonl")
    sites = spending_by_site(read_releases(file))
    if as_json:
        content = {"schema_version": 1, "sites": [site.to_json() for site in sites]}
        print(json.dumps(content, ensure_ascii=False, allow_nan=False))
    else:
        _show_sites(Console(highlight=False), sites)
    check_recorded(sites)


def _show_cost(console: Console, cost: PrivacyCost) -> None:
    from simulations.report.number_text import delta_text, epsilon_text

    event, delta = cost.event, delta_text(cost.delta)
    sampling = (
        f"secret Poisson sampling at rate {event.sample_rate:.6g} per step"
        if event.sample_rate < 1
        else "every user in every step, no amplification"
    )
    if cost.calibrated is not None:
        found = {
            "sigma": f"noise multiplier σ = {event.noise_multiplier:.6g}",
            "rate": f"sampling rate q = {event.sample_rate:.6g}",
            "steps": f"number of steps = {event.steps}",
        }
        console.print(
            f"found for ε = {cost.target_epsilon:g} (PRV, δ = {delta}, per user, add or remove "
            f"one; sampling as below): {found[cost.calibrated]}",
            markup=False,
        )
    console.print(
        f"{event.steps} steps at σ = {event.noise_multiplier:.6g}; {sampling}. Each ε below is for "
        "one user, add or remove all of their data, over all steps together.",
        markup=False,
    )
    totals = Table("accountant", f"ε at δ = {delta}")
    for name, spent in cost.spent.items():
        totals.add_row(name.upper(), epsilon_text(spent))
    console.print(totals)
    profile = Table("δ", "ε(δ), PRV", title="privacy profile", title_justify="left")
    for point in cost.profile:
        profile.add_row(delta_text(point.delta), epsilon_text(point.epsilon))
    console.print(profile)


def _show_sites(console: Console, sites: list[SiteSpending]) -> None:
    from simulations.report.number_text import delta_text, epsilon_text

    shared = {_remarks(site) for site in sites}
    units = " or ".join(sorted({site.unit for site in sites})) or "unit"
    caption = f"ε per {units}, add or remove one, over all releases of the file"
    headers = ["site", "releases", "δ", "recorded PRV", "PRV", "RDP", "PLD"]
    if len(shared) == 1:
        caption += f"; {shared.pop()}"
    else:
        headers.append("remarks")
    table = Table(*headers, caption=caption)
    for site in sites:
        cells = [site.site, str(site.releases), delta_text(site.delta)]
        cells.append(epsilon_text(site.recorded["prv"]))
        cells += [epsilon_text(value) for value in site.recomputed.values()]
        table.add_row(*cells, *([_remarks(site)] if "remarks" in headers else []))
    console.print(table)


def _remarks(site: SiteSpending) -> str:
    remarks = [site.sampling]
    if site.lab_only:
        remarks.append(f"{site.lab_only} exact metrics, lab only, not covered")
    if site.seeded:
        remarks.append("SEEDED NOISE: no guarantee")
    if site.fault() is not None:
        remarks.append("RECORDED TOO LITTLE")
    return "; ".join(remarks)
