"""The Flower ServerApp: resolves the configuration, then runs the federation.

`fedrec simulate` builds it with the run's folder and a listener. Under ``flwr run`` the
module's `app` chooses the folder itself: ``FEDREC_RUN_FOLDER`` if that is set (the
simulation's Flower engine sets it), else ``<UTC time>-<run id>`` under ``FEDREC_RUNS``, or
under ``runs/`` of the working directory of the process that runs the ServerApp. With
``--run-config "resume='NAME'"`` it goes on with the run NAME there, under that run's own name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.config import RunConfig
from common.config_loading import load_config
from common.item_vectors import check_named
from common.logs import configure_flower_log
from common.progress import ProgressListener
from common.run_folder import RunFolder
from common.run_keys import resumed_run
from server.guarded_grid import guarded
from server.log_listener import LogListener
from server.round_loop import run_rounds
from server.run_lock import only_server
from server.run_records import RunRecords
from server.runs_folder import runs_folder
from server.site_waiting import wait_for_sites
from server.strategy import FederatedAdapters
from server.warm_start import record_start, starting_adapter

RUN_FOLDER_VARIABLE = "FEDREC_RUN_FOLDER"
SITES_DEADLINE_S = 60.0
"""Seconds to wait for all of `data.sites` to connect; then fewer will do, if they are enough."""


def build_server_app(
    *,
    run_folder: Path | None = None,
    listener: ProgressListener | None = None,
    sites_deadline_s: float = SITES_DEADLINE_S,
) -> ServerApp:
    """Builds the ServerApp of one run.

    Args:
        run_folder: folder of the run, with no rounds in it yet unless the run is resumed;
            none: see the module.
        listener: hears of progress; none: a line per round in Flower's log.
        sites_deadline_s: seconds to wait for all sites to connect.

    Returns:
        An app whose run raises `FedrecError`, with one clear line, when it cannot go on.
    """
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        if listener is None:
            configure_flower_log()
        config, resumed = load_config(flat=context.run_config), resumed_run(context.run_config)
        check_named(config.model)  # no site is asked before
        heard = listener if listener is not None else LogListener()
        path = run_folder or chosen_run_folder(context.run_id, resumed)

        def wait() -> None:
            deadline = min(sites_deadline_s, config.federation.round_deadline_s)
            wait_for_sites(grid, config.data.sites, deadline, config.least_sites, heard)

        run = "" if resumed else unique_run_name(path, context.run_id)
        with _records(path, config, run, wait) as records:
            start = starting_adapter(config)
            if not resumed:
                record_start(records.folder, config, start)
            strategy = FederatedAdapters(config, records.run, start, heard)
            run_rounds(guarded(grid), strategy, records, heard)

    return server_app


@contextmanager
def _records(
    path: Path, config: RunConfig, run: str, wait: Callable[[], None]
) -> Iterator[RunRecords]:
    """The records of the new `run`, or of the one in `path` if that is empty; held alone."""
    if run:
        wait()
        with only_server(path):
            yield RunRecords.start(path, config, run)
        return
    RunFolder.create(path, resume=True)  # what is no run gets no lock, and no folder
    with only_server(path):
        records = RunRecords.resume(path, config)  # says what is wrong before it waits
        wait()
        yield records


def chosen_run_folder(run_id: int, resumed: str = "") -> Path:
    """The folder of a run that ``flwr run`` started, new or `resumed` by name; see the module."""
    if chosen := os.environ.get(RUN_FOLDER_VARIABLE):
        return Path(chosen)
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return runs_folder() / (resumed or f"{moment}-{run_id}")


def unique_run_name(path: Path, run_id: int) -> str:
    """The folder's name and Flower's run id.

    A site's ledger answers a release that it already charged with the same bytes, keyed by
    the run's name: two runs must never share one, even in folders of the same name.
    """
    name = path.resolve().name[:100]
    return name if name.endswith(str(run_id)) else f"{name}-{run_id}"


app = build_server_app()
