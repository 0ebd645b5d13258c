"""``flwr run .`` against a local simulation SuperLink that ends with the run.

Flower's own ``local`` connection leaves its SuperLink running for the next run. This
starts one of our own, hands every argument to ``flwr run .`` and leaves nothing behind::

    python -m simulations.engines.flwr_run --run-config "data.sites_folder='/…/sites'"
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import FederationError, FedrecError
from server.runs_folder import RUNS_VARIABLE
from simulations.engines.flower import COMPLETED, run_status
from simulations.engines.superlink import CONNECTION, own_superlink, script


def flwr_run(app: Path, arguments: Sequence[str]) -> None:
    """Runs the Flower app in the folder `app` and streams its log to stdout.

    Args:
        app: A folder with a ``pyproject.toml`` that has ``[tool.flwr.app]``.
        arguments: Further arguments of ``flwr run``.

    Raises:
        FederationError: Flower did not accept the run, or it did not complete.
    """
    runs = os.environ.get(RUNS_VARIABLE) or str(Path("runs").resolve())
    with own_superlink({RUNS_VARIABLE: runs}) as superlink:
        command = [script("flwr"), "run", str(app), CONNECTION, "--stream", *arguments]
        subprocess.run(command, env=superlink.environment, stdin=subprocess.DEVNULL, check=False)
        status, details = run_status(superlink)
        if status != COMPLETED:
            raise FederationError(f"flwr run ended as {status}: {details or 'see its log above'}")


def main() -> None:
    """The command; exit code 2 with one line where the run fails, 130 on Ctrl-C."""
    try:
        flwr_run(Path("."), sys.argv[1:])
    except FedrecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
