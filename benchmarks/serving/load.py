"""`fedrec-site serve` under load: latencies at a fixed rate, and what a killed service loses.

::

    PYTHONPATH=. python -m benchmarks.serving.load --write docs/serving.md   # 100 requests/s, 60 s
    PYTHONPATH=. python -m benchmarks.serving.load --kill-every 15 --seconds 120 \\
        --write docs/serving.md

Open loop: requests are sent when they are due, whether or not earlier ones were answered, and a
latency counts from when its request was due. Service and clients share this machine. Users are
those of MovieLens-100K with at least 100 interactions, with the last 100 of each; the adapter has
the demo's shape and made-up numbers (`made_site`). With `--write` a result is kept as a line of
`results.jsonl`, and the page's table is renewed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adapter_gain.page import renew
from benchmarks.serving.killing import kill_under_load
from benchmarks.serving.open_loop import open_loop
from benchmarks.serving.process import Service, running
from common.interactions import Dataset

RESULTS = Path(__file__).with_name("results.jsonl")
START_S = 20.0
"""A start takes about so long; the load goes on meanwhile."""
FIRST = "which go before all other work on it (`--first`: SCHED_RR)"
HISTORY = 100
COMMAND = "python -m benchmarks.serving.load"


def movielens_site(folder: Path) -> tuple[Path, dict[str, int]]:
    """A site with all of MovieLens-100K and an adapter; its users' lengths where they are long."""
    from benchmarks.serving.made_site import install, make_export, make_site
    from common.config_loading import load_config
    from simulations.datasets import load_dataset

    config = load_config(
        scenario=Path("simulations/scenarios/demo.toml"),
        overrides=["data.sites=1", "federation.min_sites=1", "privacy.mode=none"],
    )
    dataset = with_last(load_dataset(config.data), HISTORY)
    site = make_site(dataset, config, folder / "sites")
    install(make_export(dataset, config, folder, 1), site, dataset, config)
    lengths = np.bincount(dataset.interactions.user)
    long = np.flatnonzero(lengths >= HISTORY)
    return site, {dataset.interactions.user_ids[user]: int(lengths[user]) for user in long}


def with_last(dataset: Dataset, most: int) -> Dataset:
    """`dataset` with each user's last `most` interactions alone."""
    events = dataset.interactions
    order = np.lexsort((events.timestamp, events.user))
    ends = np.searchsorted(events.user[order], events.user[order], side="right")
    kept = np.sort(order[ends - np.arange(len(order)) <= most])
    columns = {
        name: getattr(events, name)[kept] for name in ("user", "item", "rating", "timestamp")
    }
    return replace(dataset, interactions=replace(events, **columns))


def measured(
    service: Service, users: dict[str, int], rate: float, seconds: float
) -> dict[str, Any]:
    """Latencies of an undisturbed service."""
    found = open_loop(service, list(users), rate, seconds)
    return {"what": "load", **found.summary()}


def killed(
    service: Service, users: dict[str, int], rate: float, seconds: float, every: float
) -> dict[str, Any]:
    """Lists at the full rate and feedback beside it, from clients that try again."""
    kills = max(1, int((seconds - every) / (every + START_S)))
    items = [str(number) for number in range(1, 1683)]
    with ThreadPoolExecutor(1) as pool:
        lists = pool.submit(open_loop, service, list(users), rate, seconds, tries_again=True)
        losses = kill_under_load(
            service, list(users), items, kills=kills, every=every, clients=2, pause=0.1
        )
        found = lists.result()
    answered = found.statuses["OK"]
    feedback = {f"feedback_{name}": value for name, value in vars(losses).items()}
    lost = len(found.seconds) - answered + losses.sent - losses.recorded
    return {"what": "kill", **found.summary(), **feedback, "lost": lost}


def go_first(service: Service) -> None:
    """On a machine that does other work too: the figures are then those of an idle one."""
    if service.process is None:
        raise RuntimeError("not started")
    for process in (service.process.pid, os.getpid()):
        subprocess.run(["chrt", "--all-tasks", "--rr", "--pid", "10", str(process)], check=True)


def table() -> str:
    """The last result of each kind, for the page."""
    last = {line["what"]: line for line in map(json.loads, RESULTS.read_text().splitlines())}
    rows = [
        "| | requests | p50 | p90 | p99 | longest | statuses | load before, after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what, name in (("load", "not killed"), ("kill", "killed and started again")):
        if what not in last:
            continue
        line = last[what]
        times = [f"{line[key]:g} ms" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms")]
        statuses = ", ".join(f"{count} {status}" for status, count in line["statuses"].items())
        loads = f"{line['load_before']:.1f}, {line['load_after']:.1f}"
        rows.append(f"| {name} | {line['requests']} | {' | '.join(times)} | {statuses} | {loads} |")
    if "load" in last:
        line = last["load"]
        rows += [
            "",
            f"{line['rate']:g} requests/s for {line['seconds']:g} s, {line['items']} items, "
            f"histories of {line['median']}; "
            f"{line['cores']} cores ({line['machine']}), shared by service and clients, "
            f"{FIRST if line['first'] else 'without precedence over other work on it'}. The load "
            "is the average of a minute.",
        ]
    if "kill" in last:
        line = last["kill"]
        rows += [
            "",
            f"Killed (SIGKILL) {line['feedback_kills']} times: {line['requests']} lists asked for, "
            f"{line['statuses'].get('OK', 0)} answered after {line['retries']} retries; "
            f"{line['feedback_sent']} rows of feedback sent, {line['feedback_answered']} answered, "
            f"{line['feedback_recorded']} found in the database once. Lost: {line['lost']}. "
            f"A service is back {line['back_s']:g} s after it was killed (median).",
        ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, default=0.0)
    parser.add_argument(
        "--first",
        action="store_true",
        help="service and clients go before all other work (SCHED_RR, root), once it is ready",
    )
    parser.add_argument("--folder", type=Path, help="keep the made site here, or use the one there")
    parser.add_argument("--write", type=Path, help="keep the result, and renew this page's table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        known = folder / "users.json"
        if known.is_file():
            users, site = json.loads(known.read_text()), folder / "sites" / "site-0000"
        else:
            folder.mkdir(parents=True, exist_ok=True)
            site, users = movielens_site(folder)
            known.write_text(json.dumps(users))
        before = os.getloadavg()[0]
        with running(site) as service:
            if given.first:
                go_first(service)
            if given.kill_every:
                found = killed(service, users, given.rate, given.seconds, given.kill_every)
                found["back_s"] = round(float(np.median(service.starts[1:])), 1)
            else:
                found = measured(service, users, given.rate, given.seconds)
            found["exit_code"] = service.end(signal.SIGTERM)
    lengths = list(users.values())
    result = found | {
        "rate": given.rate,
        "seconds": given.seconds,
        "items": 1682,
        "shortest": min(lengths),
        "median": int(np.median(lengths)),
        "longest": max(lengths),
        "load_before": round(before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "first": given.first,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    print(json.dumps(result))
    if given.write is not None:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        renew(given.write, COMMAND, table())


if __name__ == "__main__":
    main()
