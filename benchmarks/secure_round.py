"""What secure aggregation adds to a round of the demo.

Run it by ``PYTHONPATH=. python benchmarks/secure_round.py [SITES]``, 32 sites by default, on
MovieLens-100K with an adapter of about 25,000 numbers. The same federation runs its rounds in
mode `central` (exact parts, no masks) and in mode `distributed`, alternating, in one process;
the figure is the ratio of the two, and the bytes that a site sends per round.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
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
REPEATS = 2
HEAD_DIM = 56


def demo(sites: int, mode: str) -> RunConfig:
    """The demo's settings with another number of sites and an adapter of about 25,000."""
    changes = [
        f"data.sites={sites}",
        f"privacy.mode={mode}",
        f"privacy.max_dropouts={sites // 5}",
        f"federation.rounds={ROUNDS}",
        f"model.head_dim={HEAD_DIM}",
    ]
    return load_config(scenario=find_scenario("demo"), overrides=changes)


def rounds_of(config: RunConfig, folder: Path) -> tuple[list[float], float]:
    """Seconds of each training round, and mean bytes that a site sent in one."""
    run = RunFolder.create(folder)
    run.write_config(config)
    dataset = load_dataset(config.data)
    with simulated_sites(dataset, config, run) as sited:
        run_inprocess(sited, run, SilentListener())
    rounds = [record for record in run.read_rounds() if record["server_round"]]
    sent = [site["bytes_up"] for record in rounds for site in record["sites"]]
    return [record["seconds"] for record in rounds], statistics.mean(sent)


def main() -> None:
    sites = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    seconds: dict[str, list[float]] = {"central": [], "distributed": []}
    sent: dict[str, float] = {}
    numbers = sum(array.size for array in initial_adapter(demo(sites, "central")).values())
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(REPEATS):
            for mode in seconds:
                name = Path(scratch) / f"{mode}-{repeat}"
                took, sent[mode] = rounds_of(demo(sites, mode), name)
                seconds[mode] += took[1:]  # the first one also loads BERT
    print(f"{sites} sites, {numbers} numbers, demo rounds with their validation")
    for mode, took in seconds.items():
        shown = ", ".join(f"{s:.1f}" for s in took)
        print(f"{mode:12} {statistics.median(took):7.1f} s a round ({shown})")
        print(f"{'':12} {sent[mode]:9.0f} bytes sent by a site in a round")
    ratio = statistics.median(seconds["distributed"]) / statistics.median(seconds["central"])
    print(f"distributed ÷ central: {ratio:.3f} (target: at most 1.30)")


if __name__ == "__main__":
    main()
