"""Reads what a run left in its folder; a damaged file is one clear line, never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from common.atomic_files import read_json
from common.config import RunConfig
from common.errors import RunFolderError
from common.release_record import ReleaseRecord
from common.run_folder import RunFolder
from common.schema_version import read_versioned_lines
from simulations.report.diversity_file import DIVERSITY_FILE, DiversityFile
from simulations.report.metrics_file import MetricsFile
from simulations.report.sweep_beside import (
    SweepBeside,
    SweptResult,
    sibling_results,
    sweep_file,
)

METRICS_FILE = "metrics.json"
SiteStatus = Literal["ok", "refused", "error", "non_finite"]
Record = TypeVar("Record", bound=BaseModel)


class SiteRound(BaseModel):
    """What one site did in one server round; `epsilon_prv` is its ledger's total so far."""

    model_config = ConfigDict(frozen=True)

    site: str
    status: SiteStatus
    reason: str | None = None
    bytes_up: int = 0
    epsilon_prv: float | None = None


class RoundRecord(BaseModel):
    """One line of `rounds.jsonl`; `metrics` says whether `validation` is exact (lab only).

    `run` and `adapter_sha256` (the global adapter after the round) are null in older folders.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1]
    server_round: int
    started_at: str | float
    seconds: float
    sites: tuple[SiteRound, ...]
    validation: dict[str, float | None] | None = None
    metrics: Literal["exact", "private", "none"] = "exact"
    update_norm: float | None = None
    fault: str | None = None
    run: str | None = None
    adapter_sha256: str | None = None
    stopped: str | None = None


@dataclass(frozen=True)
class RunFiles:
    """Everything the report reads.

    Attributes:
        name: the run's name, its folder's name.
        config: the resolved configuration.
        rounds: in order; empty when the run ended before its first round.
        releases: every release of every site, in order of arrival.
        metrics: the lab's evaluation, or none when the run ended before it.
        ledgers: names of the sites whose ledger was exported.
        diversity: what variety of lists costs, or none where nobody measured it.
        siblings: results at each budget of the sweep that the run lies in, its own among them.
    """

    name: str
    config: RunConfig
    rounds: tuple[RoundRecord, ...]
    releases: tuple[ReleaseRecord, ...]
    metrics: MetricsFile | None
    ledgers: tuple[str, ...]
    siblings: tuple[SweptResult, ...] = ()
    diversity: DiversityFile | None = None


def read_run(path: Path) -> RunFiles:
    """Read the records of a run.

    Args:
        path: `runs/NAME`.

    Returns:
        The records; lists are empty and `metrics` is none where a run ended early.

    Raises:
        RunFolderError: there is no run at `path`, or one of its files is damaged.
        ConfigError: its `config.toml` is no configuration.
    """
    folder = RunFolder.open(path)
    metrics = None
    if (path / METRICS_FILE).is_file():
        metrics = _parse(MetricsFile, folder.read_json(METRICS_FILE), path / METRICS_FILE)
    return RunFiles(
        name=path.resolve().name,
        config=folder.read_config(),
        rounds=tuple(
            _parse(RoundRecord, record, path / "rounds.jsonl", number)
            for number, record in enumerate(folder.read_rounds(), start=1)
        ),
        releases=read_releases(path / "releases.jsonl"),
        metrics=metrics,
        ledgers=tuple(folder.read_ledgers()),
        siblings=_siblings(path),
        diversity=_diversity(folder),
    )


def _diversity(folder: RunFolder) -> DiversityFile | None:
    path = folder.path / DIVERSITY_FILE
    if not path.is_file():
        return None
    return _parse(DiversityFile, folder.read_json(DIVERSITY_FILE), path)


def write_diversity(path: Path, diversity: DiversityFile) -> None:
    """Write `diversity.json` into the run's folder, whole or not at all.

    Raises:
        RunFolderError: there is no run at `path`, or the file system refuses.
    """
    RunFolder.open(path).write_json(DIVERSITY_FILE, diversity.model_dump(mode="json"))


def _siblings(run: Path) -> tuple[SweptResult, ...]:
    path = sweep_file(run)
    if path is None:
        return ()
    sweep = _parse(SweepBeside, read_json(path), path)
    return tuple(sibling_results(sweep, run, path.parent))


def read_releases(path: Path) -> tuple[ReleaseRecord, ...]:
    """Read every release in the log at `path`, in order of arrival; no log, no releases.

    Raises:
        RunFolderError: a line is damaged.
    """
    return tuple(
        _parse(ReleaseRecord, record, path, number)
        for number, record in enumerate(read_versioned_lines(path), start=1)
    )


def write_metrics(path: Path, metrics: MetricsFile) -> None:
    """Write `metrics.json` into the run's folder, whole or not at all.

    Args:
        path: `runs/NAME`.
        metrics: from `build_metrics`.

    Raises:
        RunFolderError: there is no run at `path`, or the file system refuses.
    """
    RunFolder.open(path).write_json(METRICS_FILE, metrics.model_dump(mode="json"))


def _parse(
    model: type[Record], content: Mapping[str, object], path: Path, line: int | None = None
) -> Record:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the record"
        place = f"{path}, line {line}" if line else str(path)
        reason = " ".join(first["msg"].split())
        raise RunFolderError(
            f"{place} is damaged: {key}: {reason}; restore the file, or run again"
        ) from error
