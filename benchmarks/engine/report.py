"""From outcomes to rows, ratios, JSON and a table."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.engine.isolated import Outcome
from benchmarks.engine.subjects import SUBJECTS
from benchmarks.engine.workloads import SAME_PEER, WORKLOADS

SCHEMA_VERSION = 1
PACKAGES = ("torch", "transformers", "peft", "opacus", "flwr", "ray", "numpy")
PEER = "A"
MIB = 2**20


def row(workload: str, subject: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One subject on one workload: the median over its repeats, the spread, and every repeat."""
    good = [outcome.measurement for outcome in outcomes if outcome.measurement is not None]
    rates = [measurement.rate for measurement in good]
    samples = [sample for measurement in good for sample in measurement.samples]
    if not good:
        reason = outcomes[-1].reason if outcomes else "not asked for"
        failed = any(outcome.failed for outcome in outcomes)
        return {"workload": workload, "subject": subject, "failed": failed, "reason": reason}
    busy = [o.gpu_utilisation for o in outcomes if o.gpu_utilisation is not None]
    return {
        "workload": workload,
        "subject": subject,
        "failed": any(outcome.failed for outcome in outcomes),
        "reason": " ".join(outcome.reason for outcome in outcomes if outcome.reason),
        "positions_per_second": statistics.median(rates),
        "spread": spread(samples if len(rates) == 1 else rates),
        "client_rounds_per_second": statistics.median(
            [measurement.client_rounds / measurement.seconds for measurement in good]
        ),
        "start_seconds": statistics.median([measurement.start_seconds for measurement in good]),
        "peak_bytes": max(outcome.peak_bytes for outcome in outcomes),
        "peak_bytes_bound": max(outcome.peak_bytes_bound for outcome in outcomes),
        "gpu_utilisation": statistics.mean(busy) if busy else None,
        "notes": list(good[-1].notes),
        "repeats": [asdict(outcome) for outcome in outcomes],
    }


def spread(rates: Sequence[float]) -> float | None:
    """(largest − smallest) ÷ median; None of one figure."""
    return (max(rates) - min(rates)) / statistics.median(rates) if len(rates) > 1 else None


def ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """fedrec ÷ peer A for every workload that has both, with its targets."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {
        (entry["workload"], entry["subject"]): entry
        for entry in rows
        if "positions_per_second" in entry
    }
    result = []
    for workload, settings in WORKLOADS.items():
        peer = found.get((SAME_PEER.get(workload, workload), PEER))
        for name, subject in SUBJECTS.items():
            ours = found.get((workload, name))
            if peer is None or ours is None or not subject.is_fedrec:
                continue
            ratio = ours["positions_per_second"] / peer["positions_per_second"]
            result.append(
                {
                    "workload": workload,
                    "subject": name,
                    "throughput": ratio,
                    "client_rounds": ours["client_rounds_per_second"]
                    / peer["client_rounds_per_second"],
                    # Our upper bound by what the peer was seen to hold.
                    "peak_memory": ours["peak_bytes_bound"] / max(peer["peak_bytes"], 1),
                    "must_fp32": settings.must[0],
                    "frontier_fp32": settings.frontier[0],
                }
            )
    return result


def machine(threads: int, device: str, gpu: str | None) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "gpu": gpu,
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def document(
    machine_facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    quick: bool,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """All that goes into the JSON file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": dict(machine_facts),
        "workloads": {name: asdict(workload) for name, workload in WORKLOADS.items()},
        "results": list(rows),
        "ratios": ratios(rows),
        **extra,
    }


def show(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Prints the results and the ratios."""
    table = Table(title="Target positions per second (an example of a peer has one)")
    for column in ("workload", "subject", "per second", "spread", "client-rounds/s"):
        table.add_column(column, justify="left" if column == "subject" else "right")
    for column in ("start s", "peak MiB"):
        table.add_column(column, justify="right")
    for entry in rows:
        if "positions_per_second" not in entry:
            console.print(f"{entry['workload']} {entry['subject']}: {entry['reason']}")
            continue
        table.add_row(
            entry["workload"],
            entry["subject"],
            f"{entry['positions_per_second']:.3g}",
            "" if entry["spread"] is None else f"{entry['spread']:.0%}",
            f"{entry['client_rounds_per_second']:.3g}",
            f"{entry['start_seconds']:.1f}",
            f"{entry['peak_bytes'] / MIB:.0f}",
        )
    console.print(table)
    for name in dict.fromkeys(entry["subject"] for entry in rows):
        console.print(f"{name}: {SUBJECTS[name].text}")
    for entry in ratios(rows):
        console.print(
            f"{entry['workload']}: {entry['subject']} ÷ peer A = {entry['throughput']:.2f} "
            f"(must {entry['must_fp32']:g}, frontier {entry['frontier_fp32']:g}), "
            f"peak memory × {entry['peak_memory']:.2f} (must 0.5)"
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").split("\n") if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
