"""The settings of a run that goes on where another ended: on new data, over the same ledgers.

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
from server.warm_start import check_start

WARM_START = "federation.warm_start"
_KEPT = ("model.", "privacy.unit", "data.dataset")
"""What an adapter means hangs on these, or what a ledger counts; the rest may change."""


def continued_config(source: RunFolder, overrides: Sequence[str], *, start: str = "") -> RunConfig:
    """The configuration of `source`, with its adapter as the start and `overrides` laid over.

    Args:
        source: a run with an adapter.
        overrides: ``section.key=value`` each.
        start: how the ServerApp finds the run; empty: by its path.

    Raises:
        ConfigError: its adapter cannot be gone on from, an override is wrong, or changes what
            must not differ.
        RunFolderError: the run has no adapter.
    """
    named = f"{WARM_START}={start or str(source.path.resolve())!r}"
    config = load_config(scenario=source.path / CONFIG_FILE, overrides=[named, *overrides])
    started, asked = source.read_config().to_flat(), config.to_flat()
    different = [
        f"{key}={asked[key]} where run {source.path.name} has {started[key]}; a run that "
        "continues another keeps it: leave that out of --set, or start a new run"
        for key in started
        if key.startswith(_KEPT) and started[key] != asked[key]
    ]
    if different:
        raise ConfigError(different)
    check_start(config, source)  # what does not fit is told before anything starts
    return config
