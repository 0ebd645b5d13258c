"""``fedrec simulate --continue RUN``: `server.continuing` on the lasting sites of a simulation."""

from __future__ import annotations

from collections.abc import Sequence

from common.config import RunConfig
from common.errors import ConfigError
from common.run_folder import RunFolder
from server.continuing import continued_config as continued_settings


def continued_config(source: RunFolder, overrides: Sequence[str]) -> RunConfig:
    """The configuration of `source`, with its adapter as the start and `overrides` laid over.

    Raises:
        ConfigError: the run's sites lived only as long as it, or as in `server.continuing`.
        RunFolderError: the run has no adapter.
    """
    config = continued_settings(source, overrides)
    if not config.data.sites_folder:
        raise ConfigError(
            [
                f"run {source.path.name} made its sites for itself, and their ledgers ended with "
                "it; make lasting ones (fedrec data partition --out FOLDER --folders) and run on "
                "them with --set data.sites_folder=FOLDER"
            ]
        )
    return config
