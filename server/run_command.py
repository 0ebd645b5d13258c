"""``fedrec-server run``: `flwr run` of a server's folder, also as a run that continues another."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import tomli_w

from common.atomic_files import write_text
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import ConfigError, FederationError, RunFolderError
from common.process_environment import QUIET_ENVIRONMENT
from common.run_folder import RunFolder
from common.run_keys import RESUME, resumed_run
from server.continuing import continued_config
from server.deployment_files import run_command
from server.resuming import is_trained
from server.server_folder import ServerFolder


def asked_config(made: ServerFolder, continued: str | None, overrides: Sequence[str]) -> RunConfig:
    """The settings of the next run: those of ``run.toml``, or of the run that it continues.

    Args:
        made: the server's folder.
        continued: name of a run in its ``runs/``, or that run's folder; None: a run from zero.
        overrides: ``section.key=value`` each, laid over.

    Raises:
        ConfigError: a setting is wrong, or is none that a continued run may change.
        RunFolderError: there is no such run, or it is not finished.
    """
    if continued is None:
        return load_config(scenario=made.run_file, overrides=overrides)
    # By name alone: sites are sent every setting, and have no use for a path of the server.
    name = resumed_run({RESUME: Path(continued).resolve().name})
    source = RunFolder.open(made.runs / name)
    if Path(continued).resolve() not in (source.path.resolve(), Path(name).resolve()):
        raise RunFolderError(f"{continued} does not lie in {made.runs}; name a run that does")
    if not is_trained(source):
        raise RunFolderError(
            f"run {name} is not finished; go on with it by fedrec-server resume {source.path}"
        )
    return continued_config(source, overrides, start=name)


def start_run(
    made: ServerFolder,
    *,
    continued: str | None = None,
    overrides: Sequence[str] = (),
    only_print: bool = False,
) -> Path | None:
    """Starts a run by ``flwr run`` and streams its log; or prints the command alone.

    Returns:
        The run's folder; None where nothing was started.

    Raises:
        FedrecError: as `asked_config`; or the run did not end as finished.
    """
    config = asked_config(made, continued, overrides)
    settings = made.path / "next-run.toml"
    write_text(settings, tomli_w.dumps(config.model_dump()))
    command = run_command(made)
    command[command.index(str(made.run_file))] = str(settings)
    if only_print:
        home = shlex.quote(str(made.flower_home))
        print(f"FLWR_HOME={home} {shlex.join(command)}")
        return None
    if shutil.which(command[0]) is None:
        raise FederationError("the command flwr is not installed; install fedrec again")
    before = _runs(made)
    environment = {**os.environ, **QUIET_ENVIRONMENT, "FLWR_HOME": str(made.flower_home)}
    subprocess.run(command, env=environment, check=False)
    new = sorted(_runs(made) - before)
    if not new or not _is_finished(new[-1]):
        what = f"run {new[-1]} is" if new else "the run was"
        raise FederationError(
            f"{what} not finished; the log above says why, and rounds.jsonl who was there"
        )
    return new[-1]


def _runs(made: ServerFolder) -> set[Path]:
    return set(made.runs.iterdir()) if made.runs.is_dir() else set()


def _is_finished(run: Path) -> bool:
    try:
        return is_trained(RunFolder.open(run))
    except (RunFolderError, ConfigError):
        return False
