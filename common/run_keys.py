"""Keys of Flower's run config that say how a run is started, and not what it is.

They are no part of `RunConfig`, so that they change neither its hash nor what a site may
find wrong with it: `common.config_loading` takes them out of every flat config, at the server
and at the sites. Flower rejects an override of a key that the bundle does not have, so they
stand in ``[tool.flwr.app.config]`` as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from common.errors import ConfigError

RESUME = "resume"
RUN_KEYS: dict[str, str] = {RESUME: ""}
"""The keys with their defaults; ``resume`` names the run in the runs folder to go on with."""

IN_ITS_FOLDER = "in-its-folder"
"""The value of ``resume`` where the run's folder is given in another way."""

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def without_run_keys(flat: Mapping[str, object]) -> dict[str, object]:
    """Return the keys of `flat` that may be part of a `RunConfig`."""
    return {key: value for key, value in flat.items() if key not in RUN_KEYS}


def resumed_run(flat: Mapping[str, object]) -> str:
    """Return the name of the run to go on with; empty: a new run is asked for.

    Raises:
        ConfigError: it is no name of a run, a path for instance.
    """
    name = flat.get(RESUME, "")
    if name == "" or (isinstance(name, str) and _RUN_NAME.fullmatch(name)):
        return str(name)
    raise ConfigError(
        [f"resume = {name!r:.80} is not the name of a run; give the name of its folder, no path"]
    )
