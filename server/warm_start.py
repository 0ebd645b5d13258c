"""The adapter that a run starts from: drawn from public seeds, or that of a finished run.

A start is a public input. That of a private run was released under its own ledgers: starting
from it is post-processing, and costs nothing that those ledgers do not hold already. That of
a run without privacy is covered by nothing, and a private run refuses it.
"""

from __future__ import annotations

from pathlib import Path

from common.adapters import Adapter, adapter_sha256, all_finite, check_same_shapes, shapes
from common.config import RunConfig
from common.errors import ConfigError, MessageError
from common.initial_adapter import initial_adapter
from common.run_folder import CONFIG_FILE, RunFolder
from server.runs_folder import runs_folder

WARM_START_FILE = "warm_start.json"


def starting_adapter(config: RunConfig) -> Adapter:
    """The adapter before the first round.

    Raises:
        ConfigError: `federation.warm_start` names a run that this one cannot start from.
        RunFolderError: it names no finished run.
    """
    if not config.federation.warm_start:
        return initial_adapter(config)
    return check_start(config, start_folder(config))


def check_start(config: RunConfig, folder: RunFolder) -> Adapter:
    """The adapter of the run in `folder`, as the start of one under `config`.

    Raises:
        ConfigError: it cannot be that.
        RunFolderError: the run has no adapter.
    """
    key, source = "federation.warm_start", folder.read_config()
    if config.is_private and not _is_covered(source):
        raise ConfigError(
            [
                f"{key}={str(folder.path)!r} was trained without a guarantee, which no ledger "
                "covers; start from a private run, or set privacy.mode=none"
            ]
        )
    if source.model.weights != config.model.weights:
        raise ConfigError(
            [f"{key}: {folder.path} has model.weights={source.model.weights}; use the same"]
        )
    seed = source.federation.seed
    if _draws_lora(config) and seed != config.federation.seed:
        raise ConfigError(
            [
                f"{key}: {folder.path} has federation.seed={seed}, which LoRA's frozen half is "
                f"drawn from; set federation.seed={seed}"
            ]
        )
    adapter, _ = folder.read_adapter()
    try:
        check_same_shapes(shapes(adapter), shapes(initial_adapter(config)))
    except MessageError as error:
        raise ConfigError(
            [f"{key}: the adapter of {folder.path} does not fit ({error}); use its model settings"]
        ) from error
    if not all_finite(adapter):
        raise ConfigError([f"{key}: the adapter of {folder.path} is not finite; use another run"])
    return adapter


def record_start(folder: RunFolder, config: RunConfig, adapter: Adapter) -> None:
    """Puts on record which adapter a run started from, and what covered it."""
    if not config.federation.warm_start:
        return
    source = start_folder(config)
    settings = source.read_config()
    spent = [r["epsilon_prv"] for r in source.read_releases() if r["epsilon_prv"] is not None]
    folder.write_json(
        WARM_START_FILE,
        {
            "schema_version": 1,
            "run": source.path.name,
            "adapter_sha256": adapter_sha256(adapter),
            "dataset": settings.data.dataset,
            "mode": settings.privacy.mode,
            "unit": settings.privacy.unit,
            "epsilon": max(spent, default=None),
            "delta": settings.privacy.target_delta,
        },
    )


def start_folder(config: RunConfig) -> RunFolder:
    """The run that `config` starts from: a plain name is that of one in this server's runs folder.

    Raises:
        RunFolderError: there is no such run.
    """
    named = Path(config.federation.warm_start)
    beside = runs_folder() / named
    is_name = len(named.parts) == 1 and (beside / CONFIG_FILE).is_file()
    return RunFolder.open(beside if is_name else named.expanduser())


def _draws_lora(config: RunConfig) -> bool:
    """Whether the adapter leaves out LoRA's A, which is then drawn anew from the seed."""
    return config.model.item_side != "head" and config.model.adapter == "ffa"


def _is_covered(source: RunConfig) -> bool:
    return source.is_private and not source.privacy.insecure_seeded_noise
