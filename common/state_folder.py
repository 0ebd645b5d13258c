"""The user's state folder: what must outlive a site's own folder (ledger anchors)."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_state_dir


def state_folder() -> Path:
    """``FEDREC_STATE`` where it is set, else the platform's user state folder."""
    return Path(os.environ.get("FEDREC_STATE") or user_state_dir("fedrec"))
