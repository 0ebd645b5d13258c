"""What a process of ours asks of the libraries below it, before they are imported."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

QUIET_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Nothing phones home, nothing is installed at run time, no threads before a fork."""


def installed_script(name: str) -> str | None:
    """A console script of this Python's environment, else of PATH; None where it is in neither."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


def path_of_scripts() -> str:
    """PATH of a process that a service manager starts.

    Flower starts its own processes by name, and a service manager knows nothing of the
    environment in which they are installed.
    """
    return os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])


def quiet_third_parties() -> None:
    """Set `QUIET_ENVIRONMENT` for this process and its children.

    It must come before the first import of flwr, ray or transformers, which read it
    once. A variable that the operator has set stays as it is.
    """
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
