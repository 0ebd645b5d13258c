"""The user's cache folder: data sets, frozen prefixes, simulated sites."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_folder() -> Path:
    """``FEDREC_CACHE`` where it is set, else the platform's user cache folder."""
    return Path(os.environ.get("FEDREC_CACHE") or user_cache_dir("fedrec"))
