"""What secure aggregation adds to a round of the demo.

Run it by ``PYTHONPATH=. python benchmarks/secure_round.py [SITES]``, 32 sites by default, on
MovieLens-100K with an adapter of about 25,000 numbers. The same federation runs its rounds in
mode `central` (exact parts, no masks) and in mode `distributed`, alternating, in one process;
the figure is the ratio of the two, in wall-clock and in processor seconds (which other work on
the machine changes least), and the bytes that a site sends per round.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from common.config import RunConfig
from common.config_loading import load_config
from common.initial_adapter import initial_adapter
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.engines.inprocess import run_inprocess
from simulations.scenario_files import find_scenario
from simulations.simulate import simulated_sites

ROUNDS = 2
REPEATS = 1
HEAD_DIM, HEAD_ITEMS = 38, 100  # with LoRA about 25,000 numbers


def demo(sites: int, mode: str) -> RunConfig:
    """The demo's settings with another number of sites and an adapter of about 25,000."""
    changes = [
        f"data.sites={sites}",
        f"privacy.mode={mode}",
        f"privacy.max_dropouts={sites // 5}",
        f"federation.rounds={ROUNDS}",
        f"model.head_dim={HEAD_DIM}",
        f"model.head_items={HEAD_ITEMS}",
    ]
    return load_config(scenario=find_scenario("demo"), overrides=changes)


class ProcessorClock(SilentListener):
    """Processor seconds of this process in each round."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def round_started(self, server_round: int) -> None:
        self._started = time.process_time()

    def round_finished(self, record: Mapping[str, object]) -> None:
        self.seconds.append(time.process_time() - self._started)


def rounds_of(config: RunConfig, folder: Path) -> tuple[list[float], list[float], float]:
    """Wall and processor seconds of each training round; mean bytes that a site sent in one."""
    run = RunFolder.create(folder)
    run.write_config(config)
    dataset = load_dataset(config.data)
    with simulated_sites(dataset, config, run) as sited:
        clock = ProcessorClock()
        run_inprocess(sited, run, clock)
    rounds = [record for record in run.read_rounds() if record["server_round"]]
    sent = [site["bytes_up"] for record in rounds for site in record["sites"]]
    return [record["seconds"] for record in rounds], clock.seconds, statistics.mean(sent)


def main() -> None:
    sites = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    wall: dict[str, list[float]] = {"central": [], "distributed": []}
    processor: dict[str, list[float]] = {"central": [], "distributed": []}
    sent: dict[str, float] = {}
    numbers = sum(array.size for array in initial_adapter(demo(sites, "central")).values())
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(REPEATS):
            for mode in wall:
                folder = Path(scratch) / f"{mode}-{repeat}"
                took, worked, sent[mode] = rounds_of(demo(sites, mode), folder)
                wall[mode] += took[1:]  # the first one also loads BERT
                processor[mode] += worked[1:]
    print(f"{sites} sites, {numbers} numbers, demo rounds with their validation")
    for mode, took in wall.items():
        shown = ", ".join(f"{s:.1f}" for s in took)
        worked_s = statistics.median(processor[mode])
        print(f"{mode:12} {statistics.median(took):6.1f} s a round ({shown}), {worked_s:.1f} s CPU")
        print(f"{'':12} {sent[mode]:.0f} bytes sent by a site in a round")
    for name, figures in (("wall", wall), ("processor", processor)):
        ratio = statistics.median(figures["distributed"]) / statistics.median(figures["central"])
        print(f"distributed ÷ central, {name} seconds: {ratio:.3f} (target: at most 1.30)")


if __name__ == "__main__":
    main()
