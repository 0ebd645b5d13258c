"""``fedrec simulate``: one run, or a sweep of many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from common.command_line import EXIT_INTERRUPTED, stderr_console
from common.config_loading import load_config
from common.errors import ConfigError, FedrecError, RunFolderError
from common.run_folder import CONFIG_FILE, RunFolder
from simulations.command_options import AsJson, Overrides, Quiet
from simulations.run_paths import find_run, new_run_path
from simulations.scenario_files import find_scenario
from simulations.sweep_command import DEFAULT_SCENARIO, SweepOptions, sweep
from simulations.tracking import Tracking, asked_tracking, tracked

if TYPE_CHECKING:
    from common.config import RunConfig
    from simulations.simulate import SimulationResult

REPORT_FILE = "report.html"

EXAMPLES = (
    "Examples:\n\n"
    "fedrec simulate demo\n\n"
    "fedrec simulate local --set privacy.target_epsilon=3 --set data.sites=20\n\n"
    "fedrec simulate my-scenario.toml --run first-try --json --quiet\n\n"
    "fedrec simulate runs/first-try/config.toml --run again\n\n"
    "fedrec simulate distributed --audit --run examined\n\n"
    "fedrec simulate demo --sweep privacy.target_epsilon=1,3,8,inf --seeds 5 --run by-budget\n\n"
    "fedrec simulate --resume --run by-budget\n\n"
    "fedrec simulate --continue runs/first --run second"
)


def _show_keys(wanted: bool) -> None:
    """Print every key of the configuration with its default and meaning, and end."""
    if not wanted:
        return
    from simulations.config_keys import config_keys_text

    print(config_keys_text())
    raise typer.Exit


Run = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        help="Where the run goes: runs/NAME, or a path. Default: a fresh name.",
    ),
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="SECTION.KEY=V1,V2,…",
        help="Run every value; many of them: every combination. An ε of inf: without privacy.",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        min=1, help="Runs of each point: data.seed and federation.seed go up, noise is fresh."
    ),
]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Runs of a sweep at a time, each a process. Default: 1.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run or sweep of --run, as it was asked.")
]


Continue = Annotated[
    str | None,
    typer.Option(
        "--continue",
        metavar="RUN",
        help="More rounds from the adapter of a finished run, on its sites' refreshed tables "
        "and the same ledgers: what is stated is ε of all runs together.",
    ),
]
Audit = Annotated[
    bool,
    typer.Option(
        "--audit",
        help="An audit run: made-up users (evaluation.audit_canaries) are woven in, for "
        "fedrec audit to find. It spoils the model.",
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        metavar="tensorboard|mlflow", help="Tell a tracker too (pip install 'fedrec[tracking]')."
    ),
]
TrackTo = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|ADDRESS",
        help="Where to track. Default: tensorboard/ in the run's folder, or mlflow.db beside it.",
    ),
]


def simulate(
    scenario: Annotated[
        str | None,
        typer.Argument(
            help="A bundled scenario (see: fedrec scenarios) or a TOML file.",
            show_default=DEFAULT_SCENARIO,
        ),
    ] = None,
    overrides: Overrides = None,
    run: Run = None,
    sweeps: Sweep = None,
    seeds: Seeds = None,
    jobs: Jobs = None,
    resume: Resume = False,
    continued: Continue = None,
    audit: Audit = False,
    track: Track = None,
    track_to: TrackTo = None,
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

    With --sweep or --seeds it runs many and compares them: finished runs are kept, and
    the same command, or --resume, goes on with the rest. --resume --run NAME goes on
    with a single run that was cut short, too: no site pays for a release twice.
    """
    if audit and (sweeps or seeds is not None or resume):
        raise ConfigError(["--audit is for one run; leave --sweep, --seeds and --resume out"])
    if continued is not None and (scenario or sweeps or seeds is not None or resume or audit):
        raise ConfigError(
            ["--continue takes the settings of its run; change some with --set, and leave the "
             "scenario, --sweep, --seeds, --resume and --audit out"]
        )  # fmt: skip
    tracking = asked_tracking(track, track_to)
    options = SweepOptions(tuple(sweeps or ()), seeds, jobs, resume, run, tracking)
    single = _resumed_run(options)
    if single is not None:
        if scenario or overrides or options.is_grid or jobs is not None:
            raise ConfigError(
                ["--resume takes up a run as it was asked: give --run NAME, and no scenario, "
                 "--set, --sweep, --seeds or --jobs"]
            )  # fmt: skip
        from server.resuming import settings_of  # only here: it brings Flower along

        config = settings_of(single)
        _one_run(config, single, tracking, as_json=as_json, quiet=quiet, resume=True)
    elif options.is_sweep:
        sweep(scenario, overrides or [], options, as_json=as_json, quiet=quiet)
    elif jobs is not None:
        raise ConfigError(["--jobs is for sweeps; give --sweep or --seeds with it"])
    elif continued is not None:
        from simulations.continuing import continued_config

        config = continued_config(find_run(continued), overrides or [])
        folder = RunFolder.create(new_run_path(run, "continued"))
        _one_run(config, folder, tracking, as_json=as_json, quiet=quiet)
    else:
        path = find_scenario(scenario or DEFAULT_SCENARIO)
        if audit:
            from simulations.audit.run_canaries.audit_run import audit_config

            config = audit_config(path, overrides or [])
        else:
            config = load_config(scenario=path, overrides=overrides or [])
        folder = RunFolder.create(new_run_path(run, path.stem))
        _one_run(config, folder, tracking, as_json=as_json, quiet=quiet)


def _resumed_run(options: SweepOptions) -> RunFolder | None:
    """The single run that is to be resumed; None: a sweep is, or nothing.

    Raises:
        RunFolderError: the run is finished, or has nothing to go on from.
    """
    path = new_run_path(options.run, "") if options.resume and options.run else None
    if path is None or not (path / CONFIG_FILE).is_file():
        return None
    folder = RunFolder.create(path, resume=True)
    if (path / REPORT_FILE).is_file():
        raise RunFolderError(
            f"run {path} has ended, its report is {path / REPORT_FILE}; nothing is left to resume"
        )
    return folder


def _one_run(
    config: RunConfig,
    folder: RunFolder,
    tracking: Tracking | None,
    *,
    as_json: bool,
    quiet: bool,
    resume: bool = False,
) -> None:
    if not resume:
        folder.write_config(config)
    try:
        if tracking is not None:
            tracking.prepare(folder.path)
        result = _simulate(config, folder, tracking, quiet=quiet, resume=resume)
    except KeyboardInterrupt:
        print(f"stopped; everything so far is in {folder.path}", file=sys.stderr)
        if folder.checkpoint_file.is_file():
            print(f"go on with fedrec simulate --resume --run {folder.path}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except FedrecError:
        folder.discard_if_unused()
        raise
    _print_result(config, result, as_json=as_json)


def _simulate(
    config: RunConfig,
    folder: RunFolder,
    tracking: Tracking | None,
    *,
    quiet: bool,
    resume: bool,
) -> SimulationResult:
    from simulations.progress import progress_listener
    from simulations.simulate import simulate as run_simulation

    sites, local_steps = config.sites_asked, config.federation.local_steps
    with (
        progress_listener(
            stderr_console(), sites=sites, local_steps=local_steps, quiet=quiet
        ) as shown,
        tracked(tracking, config, folder.path, shown) as listener,
    ):
        result = run_simulation(config, folder, listener, resumable=True, resume=resume)
        listener.finished(result)
        return result


def _print_result(config: RunConfig, result: SimulationResult, *, as_json: bool) -> None:
    from common.trusted_parties import trusted_text
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
