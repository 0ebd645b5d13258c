"""What a run left behind, whole and of one piece, or refused: the ground of every check."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.atomic_files import file_errors, read_json
from common.config import RunConfig
from common.errors import EvidenceError
from common.ledger_checkpoint import Checkpoint, read_checkpoints
from common.release_record import ReleaseRecord
from common.run_folder import ITEM_TO_ITEM_FILE, RunFolder
from common.schema_version import read_versioned_lines
from simulations.audit.exported_ledger import ExportedLedger, read_exported_ledger
from simulations.audit.run_canaries.plan import PLAN_FILE, CanaryPlan, read_plan
from simulations.audit.same_adapter import AdapterEvidence, read_adapter_evidence
from simulations.audit.same_releases import check_releases
from simulations.audit.same_run import check_config, check_report, check_rounds
from simulations.report.privacy_totals import charged
from simulations.report.run_files import RunFiles, read_run

SUMMARIES = ("metrics.json", "report.json", "report.html", "PRIVACY.md")
DRAWN_AGAIN = ("report.json", "report.html", "PRIVACY.md")
"""What `fedrec report` makes anew from the run's records."""
ADAPTER_FILES = ("adapter.safetensors", "adapter.json", "adapter_model.safetensors",
                 "adapter_config.json", ITEM_TO_ITEM_FILE)  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """A run's records, held against each other.

    Attributes:
        path: the run's folder.
        run: the run's own name, as its sites charged it; None where nothing was released.
        files: configuration, rounds, releases and metrics.
        ledgers: of every site that released under a charge, by site.
        adapter: the released adapter, and what binds it to the run; None where there is none.
        config_is_bound: whether a record of the run holds the configuration's hash.
        report: content of `report.json`; None without one.
        copies: ledger checkpoints that peers or anchors kept, handed in by the auditor.
        pinned: sites' identity keys that the auditor knows from elsewhere, hex by site.
        canaries: plan of an audit run's canaries; None of another run, or where it is missing.
        sha256: of every file that was examined, by its path in the folder.
    """

    path: Path
    run: str | None
    files: RunFiles
    ledgers: Mapping[str, ExportedLedger]
    adapter: AdapterEvidence | None
    config_is_bound: bool
    report: Mapping[str, Any] | None
    copies: tuple[Checkpoint, ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)
    canaries: CanaryPlan | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.files.config

    @property
    def releases(self) -> tuple[ReleaseRecord, ...]:
        """Every line of the release log."""
        return self.files.releases


def read_evidence(
    path: Path, *, against: Sequence[Path] = (), pinned: Mapping[str, str] | None = None
) -> Evidence:
    """Read a run's folder, and refuse it where its parts contradict each other.

    Args:
        path: `runs/NAME`.
        against: files with checkpoints that others kept (`peer-checkpoints.jsonl`, anchors).
        pinned: sites' identity keys known from elsewhere, hex by site.

    Raises:
        EvidenceError: a file was changed, is missing, or is of another run; one line, named.
        RunFolderError: there is no run, or one of its files is damaged.
    """
    sha256 = file_hashes(path)
    files = read_run(path)
    folder = RunFolder.open(path)
    sites = {record.site for record in charged(files.releases)}
    ledgers = _ledgers(folder, sites)
    check_releases(path, read_versioned_lines(path / "releases.jsonl"), ledgers)
    run = _one_run(path, files)
    check_rounds(path, files)
    adapter = read_adapter_evidence(folder, files, run)
    config_is_bound = check_config(path, adapter)
    report = _optional_json(folder, "report.json")
    check_report(path, files, report, adapter)
    kept = pinned or {}
    _check_pinned(path, ledgers, kept)
    return Evidence(
        path=path,
        run=run,
        files=files,
        ledgers=ledgers,
        adapter=adapter,
        config_is_bound=config_is_bound,
        report=report,
        copies=tuple(each for file in against for each in read_checkpoints(file)),
        pinned=kept,
        canaries=read_plan(path) if (path / PLAN_FILE).is_file() else None,
        sha256=sha256,
    )


def examined_files(path: Path) -> list[str]:
    """Paths in the run's folder of every file that an audit examines and that is there."""
    names = ["config.toml", "rounds.jsonl", "releases.jsonl", *SUMMARIES]
    names += [f"adapter/{name}" for name in ADAPTER_FILES]
    names += ["checkpoint/checkpoint.safetensors", PLAN_FILE]
    names += sorted(f"sums/{file.name}" for file in (path / "sums").glob("*.safetensors"))
    names += sorted(f"ledgers/{file.name}" for file in (path / "ledgers").glob("*.json"))
    return [name for name in names if (path / name).is_file()]


def file_hashes(path: Path) -> dict[str, str]:
    """SHA-256 of every examined file, by its path in the folder.

    Raises:
        RunFolderError: a file cannot be read.
    """
    found = {}
    for name in examined_files(path):
        with file_errors("read", path / name), (path / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def read_pinned(path: Path) -> dict[str, str]:
    """Sites' identity keys from a JSON file: ``{"SITE": "HEX", …}``.

    Raises:
        RunFolderError: it cannot be read.
        EvidenceError: it holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise EvidenceError(f'{path} must be a JSON object {{"SITE": "KEY in hex"}}; correct it')
    return content


def _ledgers(folder: RunFolder, sites: set[str]) -> dict[str, ExportedLedger]:
    exports = folder.read_ledgers()
    missing = sorted(sites - set(exports))
    if missing:
        raise EvidenceError(
            f"missing evidence: {folder.path}/ledgers/{missing[0]}.json is not there, and "
            f"{missing[0]} released ({len(missing)} of {len(sites)} ledgers are missing); ask the "
            "site's operator for fedrec-site ledger export"
        )
    return {
        site: read_exported_ledger(folder.path / "ledgers" / f"{site}.json", site, export)
        for site, export in exports.items()
    }


def _one_run(path: Path, files: RunFiles) -> str | None:
    runs = {record.run for record in files.releases}
    runs |= {record.run for record in files.rounds if record.run is not None}
    if len(runs) > 1:
        raise EvidenceError(
            f"mixed evidence: {path} holds records of several runs ({', '.join(sorted(runs))}); "
            "audit them one by one"
        )
    return runs.pop() if runs else None


def _check_pinned(
    path: Path, ledgers: Mapping[str, ExportedLedger], pinned: Mapping[str, str]
) -> None:
    for site, key in pinned.items():
        if site in ledgers and ledgers[site].checkpoint.public_key != key:
            raise EvidenceError(
                f"tampered evidence: {path}/ledgers/{site}.json is signed by "
                f"{ledgers[site].checkpoint.public_key[:16]}…, and {site} has the key "
                f"{key[:16]}…; ask the site's operator for the ledger"
            )


def _optional_json(folder: RunFolder, name: str) -> dict[str, Any] | None:
    return folder.read_json(name) if (folder.path / name).is_file() else None
