"""Whether a run can be resumed, and from which round on; every reason against it is one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.config import RunConfig
from common.errors import ConfigError, RunFolderError
from common.run_folder import RunFolder
from server.checkpoint import Progress, read_progress
from server.early_stop import has_stopped

_NOT_HASHED = ("engine.", "data.sites_folder")
"""Keys that may differ: they change how and where a run is computed, and not its result."""


def check_config(folder: RunFolder, config: RunConfig) -> None:
    """Refuse to go on with a run under other settings than it was started with.

    Raises:
        RunFolderError: a key differs; each is named with both values. Or the run's
            ``config.toml`` is no configuration.
    """
    started, asked = settings_of(folder).to_flat(), config.to_flat()
    different = [
        f"{key}={_shown(started[key])}, asked now is {_shown(asked[key])}"
        for key in started
        if started[key] != asked[key] and not key.startswith(_NOT_HASHED)
    ]
    if different:
        raise RunFolderError(
            f"run {folder.path.name} was started with {'; '.join(different)}; resume it with its "
            f"own settings, {folder.path / 'config.toml'}"
        )


def is_trained(folder: RunFolder) -> bool:
    """Whether all rounds of the run are on record.

    Raises:
        RunFolderError: its checkpoint or its records are damaged.
    """
    progress = read_progress(folder.checkpoint_file, folder.read_checkpoint()[1])
    rounds = folder.read_config().federation.rounds
    lines = folder.read_rounds()
    is_over = progress.server_round >= rounds or has_stopped(lines)
    return is_over and len(lines) >= progress.lines


def take_up(folder: RunFolder, config: RunConfig) -> tuple[Progress, int]:
    """How far the run has come, and the round to be asked for next.

    A line of a round that ended the run, for want of sites say, is not the round's last word:

    - The line is taken out and the round is asked for again: what was charged is answered with
      the same bytes, so nothing that was released is lost, and nothing is paid for twice.
    - A secure sum is not asked for twice. The line stays, and the next round follows it.

    Raises:
        RunFolderError: nothing is left to be done, nothing can be, or a file is damaged.
    """
    progress = read_progress(folder.checkpoint_file, folder.read_checkpoint()[1])
    if progress.config_sha256 != config.sha256():
        raise RunFolderError(
            f"{folder.checkpoint_file} is of a run with another configuration than "
            f"{folder.path / 'config.toml'}; restore the two from one backup"
        )
    lines, next_round = folder.read_rounds(), progress.server_round + 1
    beyond = len(lines) - progress.lines
    if beyond not in (-1, 0, 1) or (beyond < 0 and progress.record is None):
        raise RunFolderError(
            f"{folder.path / 'rounds.jsonl'} has {len(lines)} lines where the checkpoint knows of "
            f"{progress.lines}; restore the two from one backup"
        )
    if beyond == 1 and _is_spent(lines[-1], config):
        next_round = int(lines[-1]["server_round"]) + 1
    is_over = next_round > config.federation.rounds or has_stopped(lines)
    if beyond >= 0 and is_over:
        raise RunFolderError(
            f"run {folder.path.name} is finished ({progress.server_round} of "
            f"{config.federation.rounds} rounds are on record); nothing is left to resume"
        )
    if beyond == 1 and not _is_spent(lines[-1], config):
        folder.replace_rounds(lines[:-1])
    return progress, next_round


def _is_spent(line: Mapping[str, Any], config: RunConfig) -> bool:
    """Whether the line is of a secure sum: sites enter each once, so it is not asked for again.

    Raises:
        RunFolderError: it is of a statistic that every later round needs.
    """
    is_secure = config.privacy.mode == "distributed"
    if not is_secure or not any(site["bytes_up"] for site in line["sites"]):
        return False
    if line["server_round"] == 0:
        raise RunFolderError(
            "the run ended in a secure sum before its first round, which is not asked for twice; "
            "start a new run when enough sites are there"
        )
    return True


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def settings_of(folder: RunFolder) -> RunConfig:
    """The configuration that a run is resumed with: its own.

    Raises:
        RunFolderError: its ``config.toml`` cannot be used.
    """
    try:
        return folder.read_config()
    except ConfigError as error:
        raise RunFolderError(
            f"{folder.path / 'config.toml'} is no configuration: {error.faults[0]}; restore it"
        ) from error
