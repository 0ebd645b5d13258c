"""``fedrec simulate --continue RUN``: the settings of a run that goes on where another ended.

It trains on what the sites' tables hold now, from the other's adapter, and is charged to the
same ledgers. Nothing is reset: every release states ε of the ledger's whole life, and a site
whose policy has no budget left refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.config import RunConfig
from common.config_loading import load_config
from common.errors import ConfigError
from common.run_folder import CONFIG_FILE, RunFolder
from server.warm_start import starting_adapter

WARM_START = "federation.warm_start"


def continued_config(source: RunFolder, overrides: Sequence[str]) -> RunConfig:
    """The configuration of `source`, with its adapter as the start and `overrides` laid over.

    Raises:
        ConfigError: the run's sites lived only as long as it, its adapter cannot be gone on
            from, or an override is wrong.
        RunFolderError: the run has no adapter.
    """
    start = f"{WARM_START}={str(source.path.resolve())!r}"
    config = load_config(scenario=source.path / CONFIG_FILE, overrides=[start, *overrides])
    if not config.data.sites_folder:
        raise ConfigError(
            [
                f"run {source.path.name} made its sites for itself, and their ledgers ended with "
                "it; make lasting ones (fedrec data partition --out FOLDER --folders) and run on "
                "them with --set data.sites_folder=FOLDER"
            ]
        )
    starting_adapter(config)  # what does not fit is told before anything starts
    return config
