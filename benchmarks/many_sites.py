"""Proof of scale: 100,000 simulated sites, 100 of them drawn for each round, in flat memory.

Run it by ``PYTHONPATH=. python benchmarks/many_sites.py [--sites N …] [--out FILE]``. For each
number of sites it streams a pooled federation of sites with 1 to 3 users over 1,682 items to the
disk, then runs a whole `simulate` on it (mode `local`, one local step, a small head, no lab),
each in a process of its own. It records processor and wall seconds of a round, the peak memory
of either process, the agents that are alive at the end, and the bytes on the disk; a table on
stdout, JSON in FILE. More than one number of sites shows that memory and time stay flat.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ITEMS, AT_ONCE, LEAST, MOST = 1682, 4096, 8, 40
SETTINGS = [
    "data.dataset=synthetic",
    "model.head_dim=32",
    "model.head_items=0",
    "privacy.mode=local",
    "privacy.targets_per_unit=8",
    "privacy.negatives_per_unit=32",
    "privacy.popularity_noise_multiplier=20",
    "federation.local_steps=1",
    "federation.local_lr=0.01",
    "evaluation.metrics=none",
    "evaluation.lab=false",
    "engine.threads=1",
]
TABLE = (
    ("sites", "sites", 1),
    ("s a round", "wall_seconds_a_round", 1),
    ("CPU s", "processor_seconds_a_round", 1),
    ("peak MiB", "run_peak_mib", 1),
    ("writing MiB", "writing_peak_mib", 1),
    ("agents", "live_agents", 1),
    ("data MB", "data_bytes", 1e6),
    ("run MB", "run_bytes", 1e6),
)


def write_sites(folder: Path, sites: int) -> None:
    """A made-up pooled federation, some thousand sites at a time."""
    import numpy as np
    import pyarrow as pa

    from common.site_folder import ITEMS_FILE, write_catalogue
    from simulations.pool_writer import PoolWriter
    from simulations.synthetic import synthetic_dataset

    rng = np.random.default_rng(1)
    catalogue = synthetic_dataset(users=20, items=ITEMS).catalogue
    names = np.asarray(catalogue.item_ids, dtype=object)
    folder.mkdir(parents=True)
    write_catalogue(folder / ITEMS_FILE, catalogue)
    with PoolWriter(folder, "synthetic", catalogue.sha256, 3) as writer:
        for first in range(0, sites, AT_ONCE):
            users = rng.integers(1, 4, size=min(AT_ONCE, sites - first))
            lengths = rng.integers(LEAST, MOST, size=users.sum())
            site_of_user = np.repeat(np.arange(len(users)), users)
            ids = np.array([f"{first}-{user}" for user in range(len(lengths))], dtype=object)
            # Strides that are no divisor of a prime number of items repeat no item.
            start = np.repeat(rng.integers(ITEMS, size=len(lengths)), lengths)
            stride = np.repeat(rng.integers(1, 20, size=len(lengths)), lengths)
            place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            rows = np.bincount(site_of_user, weights=lengths).astype(np.int64)
            writer.add(
                pa.table(
                    {
                        "user_id": pa.array(np.repeat(ids, lengths), pa.string()),
                        "item_id": pa.array(names[(start + stride * place) % ITEMS], pa.string()),
                        "rating": pa.array(rng.integers(1, 6, size=len(place)), pa.float32()),
                        "timestamp": pa.array(900_000_000 + 1000 * place),
                    }
                ),
                pa.table({"user_id": pa.array(ids, pa.string())}),
                rows=rows,
                users_of_site=users.astype(np.int64),
                examples=rows - 2 * users,
            )


def run(sites_folder: Path, run_folder: Path, sites: int, drawn: int, rounds: int) -> dict:
    """One simulation, and what it took."""
    from client.kept_agents import KeptAgents
    from common.config_loading import load_config
    from common.progress import SilentListener
    from common.run_folder import RunFolder
    from simulations.simulate import simulate

    class Clock(SilentListener):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.memory: list[float] = []

        def round_started(self, server_round: int) -> None:
            self._start = time.process_time()

        def round_finished(self, record: Mapping[str, object]) -> None:
            self.seconds.append(time.process_time() - self._start)
            self.memory.append(peak_mib())

    most = [0]
    put = KeptAgents._put

    def counted(self: KeptAgents, *given: object) -> None:
        put(self, *given)
        most[0] = max(most[0], len(self))

    KeptAgents._put = counted
    config = load_config(
        overrides=[
            *SETTINGS,
            f"data.sites={sites}",
            f"data.sites_folder={sites_folder}",
            f"federation.sites_per_round={drawn}",
            f"federation.rounds={rounds}",
        ]
    )
    folder = RunFolder.create(run_folder)
    folder.write_config(config)
    clock = Clock()
    simulate(config, folder, clock)
    records = [record for record in folder.read_rounds() if record["server_round"] > 1]
    return {
        "processor_seconds_a_round": statistics.median(clock.seconds[1:]),
        "wall_seconds_a_round": statistics.median(record["seconds"] for record in records),
        "run_peak_mib": peak_mib(),
        "peak_mib_after_each_round": clock.memory,
        "live_agents": most[0],
        "sites_asked": len({r["site"] for r in folder.read_releases()}),
    }


def peak_mib() -> float:
    """The most memory that this process ever had, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def size_of(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_own_process(*arguments: object) -> dict:
    """One step in a fresh process: peak memory is a process's."""
    command = [sys.executable, __file__, "--step", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def step(kind: str, *given: str) -> dict:
    """What a fresh process does."""
    if kind == "write":
        write_sites(Path(given[0]), int(given[1]))
        return {"writing_peak_mib": peak_mib()}
    sites, drawn, rounds = (int(text) for text in given[2:])
    return run(Path(given[0]), Path(given[1]), sites, drawn, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--drawn", type=int, default=100, help="sites in each round")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2: the first loads BERT")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(step(*arguments.step)))
        return
    print(" ".join(f"{title:>11}" for title, _, _ in TABLE))
    found = []
    for sites in arguments.sites:
        with tempfile.TemporaryDirectory() as scratch:
            folder, run_folder = Path(scratch) / "sites", Path(scratch) / "run"
            figures = {"sites": sites, "drawn": arguments.drawn, "rounds": arguments.rounds}
            figures |= in_own_process("write", folder, sites)
            figures["data_bytes"] = size_of(folder)
            figures |= in_own_process(
                "run", folder, run_folder, sites, arguments.drawn, arguments.rounds
            )
            figures["ledger_bytes"] = size_of(folder) - figures["data_bytes"]
            figures["run_bytes"] = size_of(run_folder)
        found.append(figures)
        print(" ".join(f"{figures[k] / by:11.1f}" for _, k, by in TABLE), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
