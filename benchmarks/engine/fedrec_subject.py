"""fedrec itself: a real federation by the in-process engine, timed over its training rounds.

The same ServerApp, messages, ledger, accounting and releases as in any run; only data sets are
not evaluated. Loading, the sites' folders, the start-up self-tests, one tiny federation and the
first round, in which the sites read their data, come before the measured rounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from unittest import mock

import client.sampling
from benchmarks.engine.measurement import Measurement, NotAvailable, Task
from benchmarks.engine.workloads import (
    BATCH,
    CLIP,
    HISTORY,
    LEARNING_RATE,
    NEGATIVES,
    RANK,
    SAMPLED_SITES,
    SIGMA,
    TOKENS,
    WORKLOADS,
)
from client.start_up import prove_private_step
from common.build_recommender import build_recommender
from common.config import RunConfig
from common.config_loading import load_config
from common.errors import ConfigError
from common.holdout import hold_out
from common.interactions import Dataset
from common.privacy_units import make_units
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.engines.inprocess import run_inprocess
from simulations.scenario_files import find_scenario
from simulations.simulated_sites import simulated_sites
from simulations.stacked.proof import prove_stacked

ROUNDS = {False: 2, True: 1}  # by `quick`
TRAINING_EXAMPLES = 98_114  # of MovieLens-100K, leave one out
QUIET = ("evaluation.metrics=none", "evaluation.every=0")


def measure(task: Task, clock: RoundClock | None = None) -> Measurement:
    """Measures `task`, its rounds by `clock`.

    Raises:
        NotAvailable: This fedrec does not know a key that the workload needs.
    """
    begun = time.monotonic()
    try:
        config = configured(task)
        warm_up = configured(task, tiny(config))
    except ConfigError as fault:
        raise NotAvailable("not available: " + "; ".join(fault.faults)) from fault
    dataset = load_dataset(config.data)
    folder = Path(tempfile.mkdtemp(dir=task.scratch))
    run_rounds(warm_up, dataset, folder / "warm-up")
    clock = run_rounds(config, dataset, folder / "run", clock)
    clock.drop_first()
    positions = [clock.units_of(r) * mean_targets(dataset, config) for r in range(len(clock.ended))]
    return Measurement(
        target_positions=sum(positions),
        seconds=sum(clock.seconds),
        client_rounds=clock.sites,
        start_seconds=clock.started[0] - begun,  # up to the first measured round
        samples=tuple(n / s for n, s in zip(positions, clock.seconds, strict=True)),
        notes=(f"{clock.sites // len(clock.ended)} sites a round, {described(config)}",),
        extra={"units": sum(clock.units), "cpu_seconds": clock.processor_seconds},
    )


def configured(task: Task, more: Sequence[str] = ()) -> RunConfig:
    """The run's configuration: the demo's, the workload's settings, and the task's overrides."""
    workload = WORKLOADS[task.workload]
    rounds = f"federation.rounds={1 + ROUNDS[task.quick]}"
    settings = [*QUIET, f"engine.threads={task.threads}", rounds]
    if task.device != "cpu":
        settings.append(f"engine.device={task.device}")
    if task.workload in ("all", "top2"):
        settings += peers_recipe(workload.lora_layers)
    else:
        settings.append("privacy.mode=local")
    if task.workload == "device":
        settings += [
            f"data.sites={workload.sites}",
            f"federation.sites_per_round={SAMPLED_SITES}",
            f"federation.local_steps={workload.steps}",
        ]
    return load_config(
        scenario=find_scenario("demo"), overrides=[*settings, *task.overrides, *more]
    )


def peers_recipe(lora_layers: int) -> list[str]:
    """What the peers train: one example = 25 rows of 24 tokens, gradient through all rows."""
    return [
        "data.sites=8",
        "model.history_gradient=true",
        "model.item_side=lora",
        "model.adapter=fedit",
        f"model.lora_layers={lora_layers}",
        f"model.lora_rank={RANK}",
        f"model.lora_rows={1 + NEGATIVES}",
        f"model.max_history={HISTORY}",
        f"model.max_tokens={TOKENS}",
        "model.popularity_prior=false",
        "privacy.mode=local",
        "privacy.unit=example",
        "privacy.targets_per_unit=1",
        f"privacy.negatives_per_unit={NEGATIVES}",
        f"privacy.noise_multiplier={SIGMA}",
        f"privacy.max_grad_norm={CLIP}",
        "privacy.target_delta=1e-6",
        f"privacy.sample_rate={8 * BATCH / TRAINING_EXAMPLES:.6g}",
        f"federation.local_lr={LEARNING_RATE}",
        "federation.lora_lr_scale=1.0",
    ]


def tiny(config: RunConfig) -> list[str]:
    """Changes that make a run of next to no work with the same model."""
    rate = min(config.privacy.sample_rate, 0.0005)
    few = ["data.sites=2", "federation.rounds=1", f"privacy.sample_rate={rate}"]
    return few + ([] if sampled_sites(config) is None else ["federation.sites_per_round=2"])


def sampled_sites(config: RunConfig) -> int | None:
    """Sites in a round, where this fedrec samples them."""
    return getattr(config.federation, "sites_per_round", None) or None


def described(config: RunConfig) -> str:
    """What of the configuration decides the work."""
    privacy, model = config.privacy, config.model
    return (
        f"mode {privacy.mode}, unit {privacy.unit}, up to {privacy.targets_per_unit} targets and "
        f"{privacy.negatives_per_unit} negatives, LoRA r={model.lora_rank} in {model.lora_layers} "
        "layers, dropout 0"
    )


def mean_targets(dataset: Dataset, config: RunConfig) -> float:
    """Target positions of a unit's contribution, on average over the units."""
    if config.privacy.unit == "example":
        return 1.0
    splits = hold_out(
        dataset.interactions, dataset.catalogue, split=config.data.split, seed=config.data.seed
    )
    units = make_units(splits, max_history=config.model.max_history)
    most = config.privacy.targets_per_unit
    return sum(min(most, len(unit.items)) for unit in units) / len(units)


@dataclass
class RoundClock(SilentListener):
    """Seconds, sites and sampled units of each training round."""

    before: Callable[[], None] = lambda: None
    started: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    sites_of: list[int] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def drop_first(self) -> None:
        """Forgets the first round."""
        for each in (self.started, self.ended, self.units, self.sites_of, self.processor):
            del each[:1]

    def run_started(self, total_rounds: int) -> None:
        self.before()

    def round_started(self, server_round: int) -> None:
        self.units.append(0)
        self._processor = time.process_time()
        self.started.append(time.monotonic())

    def round_finished(self, record: Mapping[str, object]) -> None:
        self.ended.append(time.monotonic())
        self.processor.append(time.process_time() - self._processor)
        sites = record["sites"]
        assert_ok(sites)
        self.sites_of.append(len(sites))  # type: ignore[arg-type]

    @property
    def sites(self) -> int:
        """Site rounds in all."""
        return sum(self.sites_of)

    @property
    def processor_seconds(self) -> float:
        """Of all rounds."""
        return sum(self.processor)

    @property
    def seconds(self) -> list[float]:
        return [end - start for start, end in zip(self.started, self.ended, strict=True)]

    def units_of(self, place: int) -> int:
        return self.units[place]

    def sampled(self, units: int) -> None:
        """A site drew a batch of `units`."""
        if self.units:
            self.units[-1] += units


def assert_ok(sites: object) -> None:
    """A figure of a round in which sites failed is no figure."""
    bad = [site for site in sites if site["status"] != "ok"]  # type: ignore[attr-defined]
    if bad:
        raise RuntimeError(f"{len(bad)} sites failed, the first with: {bad[0]['reason']}")


def run_rounds(
    config: RunConfig, dataset: Dataset, folder: Path, clock: RoundClock | None = None
) -> RoundClock:
    """Runs the federation and times its training rounds."""
    run = RunFolder.create(folder)
    run.write_config(config)
    clock = clock or RoundClock()
    with simulated_sites(dataset, config, run) as sited, counted_samples(clock.sampled):
        clock.before = lambda: _prepare(sited, dataset)
        run_inprocess(sited, run, clock)
    return clock


def _prepare(config: RunConfig, dataset: Dataset) -> None:
    """The start-up self-tests; and no item table is left of the warm-up's first round."""
    if config.is_private:
        prove_private_step(config, dataset.catalogue)
        if config.engine.training == "stacked":
            prove_stacked(config, dataset.catalogue)
    build_recommender(config, dataset.catalogue).keep_table_for("none yet")


@contextmanager
def counted_samples(tell: Callable[[int], None]) -> Iterator[None]:
    """Tells the size of every Poisson sample and of every batch of mode `none`."""
    draw = client.sampling.poisson_sample

    def counting(*arguments: object, **named: object) -> object:
        sample = draw(*arguments, **named)  # type: ignore[arg-type]
        tell(len(sample))
        return sample

    with ExitStack() as stack:
        for module in holders("poisson_sample", draw):
            stack.enter_context(mock.patch.object(module, "poisson_sample", counting))
        yield


def holders(name: str, function: object) -> list[ModuleType]:
    """The imported modules that know `function` by `name`."""
    return [m for m in list(sys.modules.values()) if getattr(m, name, None) is function]
