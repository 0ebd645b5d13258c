"""Configuration, rounds and report against the rest of the folder: all of one run."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from common.atomic_files import read_json
from common.errors import EvidenceError
from simulations.audit.exported_ledger import REMEDY
from simulations.audit.same_adapter import AdapterEvidence
from simulations.report.privacy_totals import charged
from simulations.report.report_data import utility_by_round
from simulations.report.run_files import RunFiles

_UNHASHED = {"engine": None, "data": "sites_folder"}  # as `common.config` leaves them out


def config_sha256(path: Path) -> str:
    """The hash that a run states for the configuration in `path`, whatever version wrote it."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    values.pop("schema_version", None)
    values.pop("engine", None)
    values.get("data", {}).pop("sites_folder", None)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_config(path: Path, adapter: AdapterEvidence | None) -> bool:
    """Hold the configuration against the hash inside the adapter's file.

    Returns:
        Whether there is an adapter to hold it against.

    Raises:
        EvidenceError: they differ.
    """
    if adapter is None:
        return False
    if adapter.metadata.get("config_sha256") != config_sha256(path / "config.toml"):
        _refuse(path / "config.toml", "it is not the configuration that the adapter was trained by")
    return True


def check_rounds(path: Path, files: RunFiles) -> None:
    """Hold what the server wrote of its rounds against the release log.

    Raises:
        EvidenceError: a site's update was used and its release is not in the log, or the totals
            of the two differ.
    """
    spent: dict[tuple[str, int], set[float | None]] = {}
    updates = set()
    for record in charged(files.releases):
        key = (record.site, record.server_round)
        spent.setdefault(key, set()).add(record.epsilon_prv)
        if record.kind == "update":
            updates.add(key)
    for line, row in enumerate(files.rounds, start=1):
        for site in (each for each in row.sites if each.status == "ok"):
            key = (site.site, row.server_round)
            if key not in spent or (row.server_round and key not in updates):
                _refuse(
                    path / "releases.jsonl",
                    f"round {row.server_round} used a release of {site.site} that it lacks",
                )
            if site.epsilon_prv is not None and site.epsilon_prv not in spent[key]:
                _refuse(
                    path / "rounds.jsonl",
                    f"line {line} states another total of {site.site} than its release",
                )


def check_report(
    path: Path,
    files: RunFiles,
    report: Mapping[str, Any] | None,
    adapter: AdapterEvidence | None,
) -> None:
    """Hold `report.json`, `PRIVACY.md` and `report.html` against the records.

    Raises:
        EvidenceError: they are of another run, or of this run with other records.
    """
    if report is None:
        return
    try:
        _check_report(path, files, report, adapter)
    except (AttributeError, KeyError, TypeError) as error:
        _refuse(path / "report.json", f"it is no report of a run ({error!r})")


def _check_report(
    path: Path, files: RunFiles, report: Mapping[str, Any], adapter: AdapterEvidence | None
) -> None:
    place = path / "report.json"
    for name, expected in _expected(path, files, adapter).items():
        if name in report and report[name] is not None and report[name] != expected:
            _refuse(place, f"it is the report of another run: its {name} is not this run's")
    stated = {site["site"]: site for site in report["sites"]}
    for record in charged(files.releases):
        if record.site not in stated:
            _refuse(place, f"it is the report of another run: it lacks {record.site}")
    for site in {record.site for record in charged(files.releases)}:
        own = [record for record in charged(files.releases) if record.site == site]
        last = [r.epsilon_prv for r in own if r.epsilon_prv is not None]
        if (stated[site]["releases"], stated[site]["recorded_prv"]) != (
            len(own), last[-1] if last else None
        ):  # fmt: skip
            _refuse(place, f"its releases and total of {site} are not those of releases.jsonl")
    for name, sought in (
        ("PRIVACY.md", report["claim"]["sentence"]), ("report.html", report["config_sha256"])
    ):  # fmt: skip
        if (path / name).is_file() and sought not in (path / name).read_text(encoding="utf-8"):
            _refuse(path / name, "it does not state what report.json states")


def _expected(path: Path, files: RunFiles, adapter: AdapterEvidence | None) -> dict[str, object]:
    metrics = path / "metrics.json"
    return {
        "config_sha256": config_sha256(path / "config.toml"),
        "mode": files.config.privacy.mode,
        "run_id": files.rounds[-1].run if files.rounds else None,
        "adapter_sha256": adapter.sha256 if adapter else None,
        "utility_by_round": utility_by_round(files.rounds),
        "results": read_json(metrics) if metrics.is_file() else None,
    }


def _refuse(path: Path, reason: str) -> NoReturn:
    raise EvidenceError(f"mixed evidence: {path}: {reason}; {REMEDY}")
