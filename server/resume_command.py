"""From a run's folder to the ``flwr run`` that goes on with it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import tomli_w

from common.atomic_files import write_text
from common.errors import FederationError, RunFolderError
from common.process_environment import QUIET_ENVIRONMENT, installed_script
from common.run_folder import RunFolder
from common.run_keys import RESUME, resumed_run
from server.resuming import is_trained, settings_of

RUN_CONFIG_FILE = Path("checkpoint") / "run-config.toml"


def resume_command(run: Path, *, app: Path, connection: str = "") -> list[str]:
    """The command that resumes a run; its run config is written beside the checkpoint.

    The run config holds every key as the run was started with it, and the run's name. The
    ServerApp looks for that name in its own runs folder (``FEDREC_RUNS``, or ``runs/`` of the
    SuperLink's working directory), so that `run` must lie there.

    Args:
        run: the run's folder.
        app: the Flower app that it was started from.
        connection: the SuperLink by its name in Flower's configuration; empty: the default.

    Returns:
        The arguments, ``flwr`` first.

    Raises:
        RunFolderError: there is no run to be resumed in `run`.
        ConfigError: its folder's name cannot name a run.
    """
    folder = RunFolder.create(run, resume=True)
    if is_trained(folder):
        raise RunFolderError(
            f"run {run} is finished: all its rounds are on record; nothing is left to resume"
        )
    name = resumed_run({RESUME: run.resolve().name})
    keys = {RESUME: name, **settings_of(folder).model_dump()}
    path = folder.path.resolve() / RUN_CONFIG_FILE
    write_text(path, tomli_w.dumps(keys))
    target = [connection] if connection else []
    return ["flwr", "run", str(app), *target, "--stream", "--run-config", str(path)]


def resume_run(
    run: Path,
    *,
    app: Path,
    connection: str = "",
    flower_home: Path | None = None,
    only_print: bool = False,
) -> None:
    """Resumes a run by ``flwr run`` and streams its log; or prints the command alone.

    Args:
        run: the run's folder.
        app: as for `resume_command`, as is `connection`.
        connection: see there.
        flower_home: Flower's own folder, which knows the connection; None: the user's.
        only_print: whether to print the command instead.

    Raises:
        FedrecError: as `resume_command`; or the run did not end as finished.
    """
    command = resume_command(run, app=app, connection=connection)
    home = {} if flower_home is None else {"FLWR_HOME": str(flower_home)}
    if only_print:
        print(
            *(f"{name}={shlex.quote(value)}" for name, value in home.items()), shlex.join(command)
        )
        return
    program = installed_script(command[0])
    if program is None:
        raise FederationError("the command flwr is not installed; install fedrec again")
    environment = {**os.environ, **QUIET_ENVIRONMENT, **home}
    subprocess.run([program, *command[1:]], env=environment, check=False)
    if not is_trained(RunFolder.open(run)):
        raise FederationError(
            f"run {run} is not finished; the log above says why, and rounds.jsonl who was there"
        )
