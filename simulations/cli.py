"""``fedrec``: the researcher's commands.

How a command ends is `common.command_line`'s; Ctrl-C keeps what is on the disk. What is
heavy is imported by the command that needs it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from common.command_line import run_command_line, stderr_console
from common.config_loading import load_config
from common.process_environment import quiet_third_parties
from simulations.audit.command import audit_app
from simulations.bandits_command import EXAMPLES as BANDITS_EXAMPLES
from simulations.bandits_command import bandits
from simulations.cold_start_command import EXAMPLES as COLD_START_EXAMPLES
from simulations.cold_start_command import cold_start
from simulations.command_options import AsJson, Overrides
from simulations.compare_command import EXAMPLES as COMPARE_EXAMPLES
from simulations.compare_command import compare
from simulations.diversity_command import EXAMPLES as DIVERSITY_EXAMPLES
from simulations.diversity_command import diversity
from simulations.privacy_command import EXAMPLES as PRIVACY_EXAMPLES
from simulations.privacy_command import privacy
from simulations.run_paths import find_run
from simulations.scenario_files import bundled_scenarios, find_scenario
from simulations.search_command import EXAMPLES as SEARCH_EXAMPLES
from simulations.search_command import search
from simulations.simulate_command import EXAMPLES, simulate

app = typer.Typer(
    name="fedrec",
    help="Train one BERT recommender across sites, with a privacy guarantee per user.",
    epilog="Start with: fedrec simulate demo\n\n"
    "Every key of the configuration with its default and meaning: fedrec simulate --keys",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Fetch public data sets; split them into sites.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(audit_app, name="audit")

app.command(epilog=EXAMPLES)(simulate)


@app.command(epilog="Example: fedrec report demo-20260101T120000Z-1a2b")
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or its folder.")],
    as_json: AsJson = False,
) -> None:
    """Write the report of a run again, from what is in its folder."""
    from simulations.report import build_report

    folder = find_run(run).path
    build_report(folder)
    _print_path("report", folder / "report.html", as_json=as_json)


@app.command()
def scenarios(as_json: AsJson = False) -> None:
    """List the scenarios that come with fedrec."""
    found = bundled_scenarios()
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    width = max(len(name) for name in found)
    for name, purpose in found.items():
        print(f"{name:{width}}  {purpose}")


app.command(epilog=COMPARE_EXAMPLES)(compare)
app.command(epilog=SEARCH_EXAMPLES)(search)
app.command(epilog=DIVERSITY_EXAMPLES)(diversity)
app.command(epilog=BANDITS_EXAMPLES)(bandits)
app.command("cold-start", epilog=COLD_START_EXAMPLES)(cold_start)
app.command("privacy", epilog=PRIVACY_EXAMPLES)(privacy)


@data_app.command("fetch", epilog="Example: fedrec data fetch movielens-100k")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="movielens-100k or debian-packages")],
) -> None:
    """Fetch a public data set into the user's cache, check it, and tell its licence."""
    from simulations.datasets import fetch_public

    console = stderr_console()
    with console.status(f"fetching {name}"):
        cached = fetch_public(name, notify=console.print)
    _print_path(name, cached, as_json=False)


@data_app.command(
    "partition",
    epilog="Example: fedrec data partition --out sites --set data.sites=5 "
    "--set data.partition=dirichlet",
)
def data_partition(
    out: Annotated[Path, typer.Option(help="Folder to make, with all sites in it.")],
    scenario: Annotated[
        str | None, typer.Argument(help="Scenario whose [data] is used. Default: the defaults.")
    ] = None,
    overrides: Overrides = None,
    pooled: Annotated[
        bool | None,
        typer.Option(
            "--pooled/--folders",
            help="All sites in a few files, or a folder per site. Default: pooled above 1,000.",
        ),
    ] = None,
) -> None:
    """Split a data set into sites: one folder each, as nodes of a deployment have them, or pooled.

    Pooled sites of a folder with interactions.parquet are streamed, never loaded at once.
    """
    from simulations.site_layout import write_sites

    path = find_scenario(scenario) if scenario else None
    config = load_config(scenario=path, overrides=overrides or [])
    console = stderr_console()
    with console.status("splitting users into sites"):
        write_sites(config.data, out, pooled=pooled, notify=console.print)
    print(f"{config.data.sites} sites in {out}")


@data_app.command(
    "catalogue",
    epilog="Example: fedrec data catalogue --out items.parquet --set data.item_graph=genres "
    "--set model.item_vectors_weight=1",
)
def data_catalogue(
    out: Annotated[Path, typer.Option(help="File to write, ending in .parquet.")],
    scenario: Annotated[
        str | None, typer.Argument(help="Scenario whose [data] is used. Default: the defaults.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Write the public items.parquet of a federation, with its vectors, and tell their hashes."""
    from simulations.public_items import write_public_items

    path = find_scenario(scenario) if scenario else None
    config = load_config(scenario=path, overrides=overrides or [])
    console = stderr_console()
    with console.status("writing the catalogue"):
        told = write_public_items(config.data, out, notify=console.print)
    for name, value in told.items():
        print(f"{name}: {value}")


def main() -> None:
    """Run the command line and map what goes wrong to one line and an exit code."""
    quiet_third_parties()
    run_command_line(lambda: app(prog_name="fedrec"))


def _print_path(name: str, path: Path, *, as_json: bool) -> None:
    print(json.dumps({name: str(path)}) if as_json else f"{name}: {path}")


if __name__ == "__main__":
    main()
