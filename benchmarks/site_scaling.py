"""What a round costs when the same users are spread over more and more sites.

Run it by ``PYTHONPATH=. python benchmarks/site_scaling.py [--out FILE] [--profile]``. One data
set of 2,000 made-up users is split into 10, 100 and 1,000 sites and trained in mode `local` on
one thread, each number of sites in a process of its own, all in one run. Two kinds of work:
`tiny`, where the model's share is as small as it gets, so that what is left is the price of a
site (messages, ledger, accounting, files); and `real`, the default head and LoRA on the units
of a scenario. The figures are processor seconds of a round, milliseconds for each site (beside
its training, and of it), the peak memory, and their ratios to 10 sites; a table on stdout, JSON
in FILE.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

SITES = (10, 100, 1000)
USERS, ITEMS = 2000, 200
WORK = {
    "tiny": ["model.item_side=head", "model.head_dim=4", "privacy.sample_rate=0.02"],
    "real": ["model.item_side=both", "model.head_dim=32", "privacy.sample_rate=0.2"],
}
COMMON = [
    "data.dataset=synthetic",
    "model.head_items=0",
    "privacy.mode=local",
    "privacy.popularity_noise_multiplier=20",
    "evaluation.every=0",
    "evaluation.metrics=none",
    "federation.local_lr=0.01",
]


def measure(work: str, sites: int, rounds: int, profile: bool) -> dict[str, float]:
    """Processor seconds of each round but the first, and peak memory, of this process."""
    import torch

    from common.config_loading import load_config
    from common.progress import SilentListener
    from common.run_folder import RunFolder
    from simulations.engines.inprocess import run_inprocess
    from simulations.simulated_sites import simulated_sites
    from simulations.stacked import StackedTrainer
    from simulations.synthetic import synthetic_dataset

    class Clock(SilentListener):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.training: list[float] = []
            self.profiler = cProfile.Profile()

        def round_started(self, server_round: int) -> None:
            self._start, training[0] = time.process_time(), 0.0
            if profile and server_round > 1:
                self.profiler.enable()

        def round_finished(self, record: Mapping[str, object]) -> None:
            self.profiler.disable()
            self.seconds.append(time.process_time() - self._start)
            self.training.append(training[0])

    training = [0.0]
    updates = StackedTrainer.updates

    def timed(*given: object) -> object:
        start = time.process_time()
        try:
            return updates(*given)
        finally:
            training[0] += time.process_time() - start

    StackedTrainer.updates = timed
    torch.set_num_threads(1)
    settings = [*COMMON, *WORK[work], f"data.sites={sites}", f"federation.rounds={rounds}"]
    config = load_config(overrides=settings)
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder.create(Path(scratch) / "run")
        folder.write_config(config)
        with simulated_sites(synthetic_dataset(USERS, ITEMS), config, folder) as sited:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            run_inprocess(sited, folder, clock)
    if profile:
        pstats.Stats(clock.profiler).sort_stats("cumulative").print_stats(70)
    return {
        "seconds": statistics.median(clock.seconds[1:]),
        "training_seconds": statistics.median(clock.training[1:]),
        "first_round_seconds": clock.seconds[0],
        "first_round_training_seconds": clock.training[0],
        "start_mib": before / 1024,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_own_process(work: str, sites: int, rounds: int) -> dict[str, float]:
    """`measure` in a fresh process: peak memory is a process's."""
    command = [sys.executable, __file__, "--one", work, str(sites), "--rounds", str(rounds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--one", nargs=2, metavar=("WORK", "SITES"), help="measure one case here")
    parser.add_argument("--profile", action="store_true", help="with --one: where the time goes")
    arguments = parser.parse_args()
    if arguments.one:
        work, sites = arguments.one
        print(json.dumps(measure(work, int(sites), arguments.rounds, arguments.profile)))
        return
    figures: dict[str, dict[str, dict[str, float]]] = {}
    titles = {"sites": 7, "s a round": 11, "ms a site": 11, "training": 10, "time ÷": 9}
    print(f"{'work':6}" + "".join(f"{t:>{w}}" for t, w in {**titles, "memory ÷": 10}.items()))
    for work in WORK:
        figures[work] = {}
        for sites in SITES:
            found = in_own_process(work, sites, arguments.rounds)
            least = figures[work].setdefault(str(SITES[0]), found)
            beside = found["seconds"] - found["training_seconds"]
            found["ms_per_site"] = 1000 * beside / sites
            first = found["first_round_seconds"] - found["first_round_training_seconds"]
            found["first_ms_per_site"] = 1000 * first / sites
            found["training_ms_per_site"] = 1000 * found["training_seconds"] / sites
            found["time_ratio"] = found["seconds"] / least["seconds"]
            found["memory_ratio"] = found["peak_mib"] / least["peak_mib"]
            figures[work][str(sites)] = found
            print(
                f"{work:6}{sites:7}{found['seconds']:11.3f}{found['ms_per_site']:11.2f}"
                f"{found['training_ms_per_site']:10.2f}"
                f"{found['time_ratio']:9.2f}{found['memory_ratio']:10.2f}",
                flush=True,
            )
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
