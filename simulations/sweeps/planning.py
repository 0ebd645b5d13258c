"""From a sweep's question to its runs: every point of the product, with every seed."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import RunConfig
from common.config_loading import load_config
from common.errors import ConfigError
from simulations.sweeps.question import Question, question_faults

POINTS_FOLDER = "points"
EPSILON_KEY = "privacy.target_epsilon"
_INFINITE = re.compile(r"\+?inf(inity)?", re.IGNORECASE)
_LONGEST_NAME = 120


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
        point: name of its point, which is a folder's name too.
        settings: the swept keys with this point's values, as they were written.
        seed: its number among the point's seeds, from 0.
        config: what it runs.
    """

    point: str
    settings: Mapping[str, str]
    seed: int
    config: RunConfig

    @property
    def path(self) -> str:
        """Its folder inside the sweep's."""
        return f"{POINTS_FOLDER}/{self.point}/seed-{self.seed}"


def plan(question: Question, scenario: Path) -> list[PlannedRun]:
    """Return all runs of a sweep, seed by seed within each point.

    An ε of ``inf`` is the same point without privacy: `privacy.mode` is none, and what the
    scenario's table ``no_privacy`` says holds. Points that differ in `privacy.mode` alone are
    then one, and run once.

    Args:
        question: what is asked.
        scenario: its TOML file.

    Raises:
        ConfigError: with all faults of all points, each once.
    """
    faults = question_faults(question)
    runs: list[PlannedRun] = []
    seen: dict[RunConfig, str] = {}
    combinations = itertools.product(*(d.values for d in question.dimensions))
    keys = [dimension.key for dimension in question.dimensions]
    for values in combinations:
        settings = dict(zip(keys, values, strict=True))
        try:
            config = load_config(
                scenario=scenario, overrides=[*question.overrides, *overrides_of(settings)]
            )
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
            continue
        name = point_name(settings)
        if config in seen and any(_is_infinite(*item) for item in settings.items()):
            continue
        faults += point_faults(config, name, seen)
        seen[config] = name
        runs += seeded(PlannedRun(name, settings, 0, config), question.seeds)
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return runs


def overrides_of(settings: Mapping[str, str]) -> list[str]:
    """Return a point's settings as ``--set`` takes them; an infinite ε comes last."""
    plain = [f"{key}={value}" for key, value in settings.items() if not _is_infinite(key, value)]
    return plain + ["privacy.mode=none" for item in settings.items() if _is_infinite(*item)]


def point_name(settings: Mapping[str, str]) -> str:
    """Return a name that is a folder's too; no two points of a sweep share one."""
    text = ",".join(f"{key}={value}" for key, value in settings.items()) or "all"
    name = re.sub(r"[^A-Za-z0-9._=,+-]", "-", text)
    if name == text and len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def seeded(first: PlannedRun, seeds: int) -> list[PlannedRun]:
    """Return a point's run of seed 0 with all its seeds; seed s adds s to `SEED_KEYS`."""
    return [
        PlannedRun(first.point, first.settings, seed, _with_seed(first.config, seed))
        for seed in range(seeds)
    ]


def point_faults(config: RunConfig, name: str, seen: Mapping[RunConfig, str]) -> Sequence[str]:
    """Return what speaks against a point: it is another one again, or spends lasting budgets.

    Args:
        config: what it runs.
        name: its name.
        seen: the names of those before it.
    """
    faults = []
    if config in seen:
        faults.append(
            f"the points {seen[config]} and {name} are one and the same configuration; "
            "leave a value out"
        )
    if config.data.sites_folder:
        faults.append(
            "data.sites_folder must be empty in a sweep or search, got "
            f"{config.data.sites_folder}: its sites' ledgers are lifelong, and every run would "
            "spend from them; set data.sites_folder=''"
        )
    return faults


def _is_infinite(key: str, value: str) -> bool:
    return key == EPSILON_KEY and _INFINITE.fullmatch(value) is not None


def _with_seed(config: RunConfig, seed: int) -> RunConfig:
    data = config.data.model_copy(update={"seed": config.data.seed + seed})
    federation = config.federation.model_copy(update={"seed": config.federation.seed + seed})
    return config.model_copy(update={"data": data, "federation": federation})
