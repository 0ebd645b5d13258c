"""`fedrec-site serve` under load: latencies at a fixed rate, and what a killed service loses.

::

    PYTHONPATH=. python -m benchmarks.serving.load                       # 100 requests/s, 60 s
    PYTHONPATH=. python -m benchmarks.serving.load --kill-every 15 --seconds 60

Open loop: requests are sent when they are due, whether or not earlier ones were answered, and a
latency counts from when its request was due. Service and clients share this machine. Users are
those of MovieLens-100K with at least 100 interactions; the adapter has the demo's shape and made-up
numbers (`made_site`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

from benchmarks.serving.killing import kill_under_load
from benchmarks.serving.process import Service, running
from client.serving import serving_pb2 as pb
from client.serving.rpc import client


@dataclass
class Latencies:
    """Of one load, in seconds, and how requests ended."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, object]:
        found = np.array(self.seconds) * 1000
        cuts = {f"p{cut:g}_ms": round(float(np.percentile(found, cut)), 2) for cut in (50, 90, 99)}
        return {"requests": len(found), **cuts, "max_ms": round(float(found.max()), 2)} | {
            "statuses": dict(self.statuses)
        }


def open_loop(service: Service, users: Sequence[str], rate: float, seconds: float) -> Latencies:
    """`rate` requests a second for lists of ten, each counted from when it was due."""
    found, lock, left = Latencies(), threading.Lock(), threading.Semaphore(0)
    metadata = service.metadata
    count = round(rate * seconds)

    def done(due: float, call: grpc.Future) -> None:
        now = time.perf_counter()
        with lock:
            found.seconds.append(now - due)
            found.statuses[call.code().name] += 1
        left.release()

    with grpc.insecure_channel(service.address) as channel:
        ask = client(channel)
        for user in users[:20]:
            ask.Recommend(pb.RecommendRequest(user=user, k=10), metadata=metadata)
        start = time.perf_counter() + 0.1
        for number in range(count):
            due = start + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            request = pb.RecommendRequest(user=users[number % len(users)], k=10)
            call = ask.Recommend.future(request, metadata=metadata, timeout=10)
            call.add_done_callback(lambda call, due=due: done(due, call))
        for _ in range(count):
            left.acquire()
    return found


def movielens_site(folder: Path) -> tuple[Path, list[str]]:
    """A site with all of MovieLens-100K and an adapter, and its users of long histories."""
    from benchmarks.serving.made_site import install, make_export, make_site
    from common.config_loading import load_config
    from simulations.datasets import load_dataset

    config = load_config(
        scenario=Path("simulations/scenarios/demo.toml"), overrides=["data.sites=1", "federation.min_sites=1", "privacy.mode=none"]
    )
    dataset = load_dataset(config.data)
    site = make_site(dataset, config, folder / "sites")
    install(make_export(dataset, config, folder, 1), site, dataset, config)
    lengths = np.bincount(dataset.interactions.user)
    long = [dataset.interactions.user_ids[user] for user in np.flatnonzero(lengths >= 100)]
    return site, long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kill-every", type=float, default=0.0)
    parser.add_argument("--folder", type=Path, help="keep the made site here, or use the one there")
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
        with running(site) as service:
            load = os.getloadavg()[0]
            if given.kill_every:
                kills = max(1, int(given.seconds / given.kill_every))
                items = [str(number) for number in range(1, 1683)]
                losses = kill_under_load(service, users, items, kills=kills, every=given.kill_every)
                print(json.dumps(vars(losses)))
            else:
                found = open_loop(service, users, given.rate, given.seconds)
                after = os.getloadavg()[0]
                print(json.dumps(found.summary() | {"load_before": load, "load_after": after}))
            if service.process is not None:
                print(f"exit code after SIGTERM: {service.end(signal.SIGTERM)}")


if __name__ == "__main__":
    main()
