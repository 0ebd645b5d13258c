"""Where the runs of this server are: ``FEDREC_RUNS``, or ``runs/`` of the working directory."""

from __future__ import annotations

import os
from pathlib import Path

RUNS_VARIABLE = "FEDREC_RUNS"


def runs_folder() -> Path:
    """The folder of runs of the process that runs the ServerApp."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")
