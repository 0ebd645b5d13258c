"""The engine that moves to a cluster: Flower's simulation runtime on Ray, by ``flwr run``.

The same ServerApp and ClientApp are staged, bundled and started as a user would start
them, against a SuperLink of the run's own; `flwr.simulation.run_simulation` is deprecated.
Nothing is reached off this machine and nothing is left running.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import torch

from common.app_staging import stage_app, write_run_config
from common.config import RunConfig
from common.errors import FederationError
from common.progress import ProgressListener
from common.run_folder import RunFolder
from common.run_keys import IN_ITS_FOLDER
from server.app import RUN_FOLDER_VARIABLE
from simulations.engines.superlink import CONNECTION, SuperLink, own_superlink, script

POLL_S = 0.3
COMPLETED = "finished:completed"
_FAILURE = "Simulation failed with exception: "


def run_flower(
    config: RunConfig, folder: RunFolder, listener: ProgressListener, *, resume: bool = False
) -> None:
    """Runs the federation of `config` on Flower's simulation runtime; see `run_engine`.

    Raises:
        FederationError: The run failed, with the one line that says why.
        KeyboardInterrupt: Passed on, after everything that was started has ended.
    """
    extra = {
        RUN_FOLDER_VARIABLE: str(folder.path.resolve()),
        # As many as the other engine uses: another number rounds sums in another order.
        "OMP_NUM_THREADS": str(config.engine.threads or torch.get_num_threads()),
    }
    listener.message("starting Flower's simulation runtime")
    with own_superlink(extra) as superlink:
        app = stage_app(superlink.home)
        run_config = write_run_config(
            superlink.home / "run-config.toml", config, IN_ITS_FOLDER if resume else ""
        )
        follow_run(_submit(superlink, app, run_config, config), config, folder, listener)
        status, details = run_status(superlink)
        if status != COMPLETED:
            raise FederationError(_reason(details, superlink))


def follow_run(
    process: subprocess.Popen[bytes],
    config: RunConfig,
    folder: RunFolder,
    listener: ProgressListener,
) -> None:
    """Hands each finished round to `listener`, until the submitted run is over."""
    listener.run_started(config.federation.rounds)
    told = len([record for record in folder.read_rounds() if record["server_round"]])
    over = False
    while not over:
        over = process.poll() is not None  # read the records once more afterwards
        rounds = [record for record in folder.read_rounds() if record["server_round"]]
        for record in rounds[told:]:
            listener.round_started(record["server_round"])
            for site in record["sites"]:
                listener.site_finished(record["server_round"], site["site"])
            listener.round_finished(record)
        told = len(rounds)
        if not over:
            time.sleep(POLL_S)


def run_status(superlink: SuperLink) -> tuple[str, str]:
    """Status and details of the SuperLink's one run.

    Raises:
        FederationError: No run was accepted.
    """
    answer = subprocess.run(
        [script("flwr"), "list", CONNECTION, "--format", "json"],
        env=superlink.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        runs = json.loads(answer.stdout)["runs"]
        return str(runs[0]["status"]), str(runs[0]["status-details"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise FederationError(
            f"Flower accepted no run; its log is {superlink.kept_log()}"
        ) from None


def federation_config(config: RunConfig) -> str:
    """Flower's federation config: as many SuperNodes as sites, one core each."""
    return f"num-supernodes={config.data.sites} client-resources-num-cpus=1"


def _submit(
    superlink: SuperLink, app: Path, run_config: Path, config: RunConfig
) -> subprocess.Popen[bytes]:
    """Starts ``flwr run --stream``, which ends when the run does."""
    command = ["flwr", "run", str(app), CONNECTION, "--stream", "--run-config", str(run_config)]
    return superlink.start([*command, "--federation-config", federation_config(config)])


def _reason(details: str, superlink: SuperLink) -> str:
    """The one line of the ServerApp's error, or where to look when there is none."""
    line = details.removeprefix(_FAILURE)
    if line != details and line:
        return line
    return f"Flower's run failed ({details or 'no details'}); its log is {superlink.kept_log()}"
