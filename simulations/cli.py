"""``fedrec``: the researcher's commands.

How a command ends is `common.command_line`'s; Ctrl-C keeps what is on the disk. What is
heavy is imported by the command that needs it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from common.command_line import EXIT_INTERRUPTED, run_command_line, stderr_console
from common.config_loading import load_config
from common.errors import FedrecError
from common.process_environment import quiet_third_parties
from common.run_folder import RunFolder
from simulations.privacy_command import EXAMPLES, privacy
from simulations.run_paths import find_run, new_run_path
from simulations.scenario_files import bundled_scenarios, find_scenario

if TYPE_CHECKING:
    from common.config import RunConfig
    from simulations.simulate import SimulationResult

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

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Change one key of the configuration; may be given many times.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def _show_keys(wanted: bool) -> None:
    """Print every key of the configuration with its default and meaning, and end."""
    if not wanted:
        return
    from simulations.config_keys import config_keys_text

    print(config_keys_text())
    raise typer.Exit


@app.command(
    epilog="Examples:\n\n"
    "fedrec simulate demo\n\n"
    "fedrec simulate local --set privacy.target_epsilon=3 --set data.sites=20\n\n"
    "fedrec simulate my-scenario.toml --run first-try --json --quiet\n\n"
    "fedrec simulate runs/first-try/config.toml --run again"
)
def simulate(
    scenario: Annotated[
        str, typer.Argument(help="A bundled scenario (see: fedrec scenarios) or a TOML file.")
    ] = "demo",
    overrides: Overrides = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Where the run goes: runs/NAME, or a path. Default: a fresh name.",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    _keys: Annotated[
        bool,
        typer.Option("--keys", is_eager=True, callback=_show_keys, help="List all keys and exit."),
    ] = False,
) -> None:
    """Run a whole federation on this machine and write its report.

    The run's folder gets the resolved configuration, a line per round, every
    release, the adapter, the metrics and the report. Ctrl-C keeps what is there.
    """
    path = find_scenario(scenario)
    config = load_config(scenario=path, overrides=overrides or [])
    folder = RunFolder.create(new_run_path(run, path.stem))
    folder.write_config(config)
    try:
        result = _simulate(config, folder, quiet=quiet)
    except KeyboardInterrupt:
        print(f"stopped; everything so far is in {folder.path}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except FedrecError:
        folder.discard_if_unused()
        raise
    _print_result(config, result, as_json=as_json)


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


app.command("privacy", epilog=EXAMPLES)(privacy)


@data_app.command("fetch", epilog="Example: fedrec data fetch movielens-100k")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="movielens-100k")],
) -> None:
    """Fetch a public data set into the user's cache, check it, and tell its licence."""
    from common.errors import DataError
    from simulations.datasets import fetch_movielens_100k

    if name != "movielens-100k":
        raise DataError(f"there is no data set {name!r} to fetch; fetch movielens-100k")
    console = stderr_console()
    with console.status(f"fetching {name}"):
        cached = fetch_movielens_100k(notify=console.print)
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


def main() -> None:
    """Run the command line and map what goes wrong to one line and an exit code."""
    quiet_third_parties()
    run_command_line(lambda: app(prog_name="fedrec"))


def _simulate(config: RunConfig, folder: RunFolder, *, quiet: bool) -> SimulationResult:
    from simulations.progress import progress_listener
    from simulations.simulate import simulate as run_simulation

    sites, local_steps = config.sites_asked, config.federation.local_steps
    with progress_listener(
        stderr_console(), sites=sites, local_steps=local_steps, quiet=quiet
    ) as listener:
        return run_simulation(config, folder, listener)


def _print_result(config: RunConfig, result: SimulationResult, *, as_json: bool) -> None:
    from simulations.report.claim import trusted_text
    from simulations.result_view import RunSummary, result_json, show_result

    summary = RunSummary(
        run_folder=result.run_folder,
        metrics=result.metrics,
        privacy=config.privacy,
        epsilon=result.epsilon,
        delta=result.delta,
        seconds=result.seconds,
        trusted=trusted_text(config),
    )
    if as_json:
        print(result_json(summary))
    else:
        show_result(Console(highlight=False), summary)


def _print_path(name: str, path: Path, *, as_json: bool) -> None:
    print(json.dumps({name: str(path)}) if as_json else f"{name}: {path}")


if __name__ == "__main__":
    main()
