"""From a search's question to its runs: every point, with every seed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from common.config import RunConfig
from common.config_faults import shown
from common.config_loading import load_config
from common.errors import ConfigError
from simulations.search.question import Point, Search, Setting
from simulations.search.searched_keys import FORCED, config_faults, set_key_faults
from simulations.sweeps.planning import PlannedRun, point_faults, point_name, seeded

OWN_POINT = "own"
"""Name of the point with the scenario's own settings."""


def plan_search(search: Search, scenario: Path) -> list[PlannedRun]:
    """Return all runs of a search, seed by seed within each point.

    Without a grid the scenario's own settings are the first point, and a value that is the
    scenario's own is that point.

    Args:
        search: what is asked.
        scenario: its TOML file; its ``[[budget]]`` table lies under the points.

    Raises:
        ConfigError: with all faults of all points, each once.
    """
    faults = _override_faults(search)
    if faults:
        raise ConfigError(faults)
    own = _config(search, {}, scenario, faults)
    points = _points(search)
    runs: list[PlannedRun] = []
    seen: dict[RunConfig, str] = {}
    for point in points if search.grid else [{}, *points]:
        settings = {key: setting_text(value) for key, value in point.items()}
        config = _config(search, point, scenario, faults) if point else own
        is_own_again = bool(runs) and not search.grid and config == own
        if config is None or is_own_again:
            continue
        name = point_name(settings) if settings else OWN_POINT
        faults += point_faults(config, name, seen)
        seen[config] = name
        runs += seeded(PlannedRun(name, settings, 0, config), search.seeds)
    if len(seen) < 2 and not faults:
        faults.append(
            f"search {search.name} has one point only, {next(iter(seen.values()))}; add values"
        )
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return runs


def own_settings(search: Search, scenario: Path) -> dict[str, str]:
    """Return what the searched keys are in the scenario itself, with ``[set]`` and ``--set``.

    Raises:
        ConfigError: with all faults.
    """
    flat = _loaded(search, {}, scenario).to_flat()
    return {key: setting_text(flat[key]) for key in search.keys}


def setting_text(value: Setting) -> str:
    """Return a value as ``--set`` takes it."""
    return value if isinstance(value, str) else shown(value)


def _points(search: Search) -> list[Point]:
    if not search.grid:
        return [point for axis in search.axes for point in axis]
    return [
        {key: value for point in combination for key, value in point.items()}
        for combination in itertools.product(*search.axes)
    ]


def _config(search: Search, point: Point, scenario: Path, faults: list[str]) -> RunConfig | None:
    """What a point runs; None, and its faults, where it cannot be run."""
    try:
        config = _loaded(search, point, scenario)
        found = config_faults(config)
        if not found:
            return _loaded(search, point, scenario, FORCED)
    except ConfigError as error:
        found = list(error.faults)
    faults += found
    return None


def _loaded(
    search: Search, point: Point, scenario: Path, forced: Mapping[str, str] | None = None
) -> RunConfig:
    """The scenario, under ``[set]``, ``--set``, the point, and what is forced, in this order."""
    kept = [each for each in search.overrides if each.partition("=")[0].strip() not in point]
    return load_config(
        scenario=scenario,
        flat={**search.settings, **point},
        overrides=[*kept, *(f"{key}={value}" for key, value in (forced or {}).items())],
        flat_source=f"search {search.name}",
    )


def _override_faults(search: Search) -> list[str]:
    faults = []
    for override in search.overrides:
        key, equals, value = (part.strip() for part in override.partition("="))
        if equals and "." in key:
            faults += set_key_faults(key, value, "--set")
    return faults
