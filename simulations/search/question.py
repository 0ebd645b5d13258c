"""What a search asks: a scenario, and the settings to be tried around it, as a TOML file says.

scenario = "distributed"          # a bundled scenario or a file
seeds = 2                         # runs of each point; 1 where it is left out
grid = false                      # true: every combination of the axes
note = "Why these."               # for people; so is `targets`

[set]                             # laid over the scenario, for every point
privacy.target_epsilon = 8.0

[[axis]]
key = "federation.local_lr"
values = [2.0, 8.0]

[[axis]]                          # several keys that change together
points = [{federation.units_per_step = 16, federation.local_steps = 6}]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeAlias

from common.config_faults import shown
from common.errors import ConfigError
from simulations.search.searched_keys import axis_key_faults, set_key_faults

Setting: TypeAlias = "bool | int | float | str"
Point: TypeAlias = "Mapping[str, Setting]"

_KINDS: Mapping[str, tuple[type, str]] = {
    "scenario": (str, "the name of a scenario"),
    "seeds": (int, "a whole number of at least 1"),
    "grid": (bool, "true or false"),
    "note": (str, "text"),
    "targets": (str, "text"),
    "set": (dict, "a table [set] of keys"),
    "axis": (list, "tables that begin with [[axis]]"),
}


@dataclass(frozen=True)
class Search:
    """A search's question.

    Attributes:
        name: of its file, for people.
        scenario: name of its scenario, or of its file.
        axes: each the points on it: dotted keys with their values.
        seeds: runs of each point.
        grid: whether every combination is tried; else one axis at a time, around the
            scenario's own settings.
        settings: dotted keys of ``[set]``.
        overrides: of ``--set``; they lie over `settings`.
        note: why it was made, for people.
        targets: what is to be reached, for people.
    """

    name: str
    scenario: str
    axes: tuple[tuple[Point, ...], ...]
    seeds: int = 1
    grid: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    note: str = ""
    targets: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are searched, each once."""
        points = (point for axis in self.axes for point in axis)
        return tuple(dict.fromkeys(key for point in points for key in point))

    def to_document(self) -> dict[str, object]:
        """Return what `read_question` reads back, but for name and ``--set``."""
        return {
            "scenario": self.scenario,
            "seeds": self.seeds,
            "grid": self.grid,
            "note": self.note,
            "targets": self.targets,
            "set": dict(self.settings),
            "axis": [{"points": [dict(point) for point in axis]} for axis in self.axes],
        }


def read_question(name: str, document: Mapping[str, object]) -> Search:
    """Return the search that a TOML document asks for.

    Args:
        name: of the search; faults name it.
        document: its content.

    Raises:
        ConfigError: with all faults.
    """
    source = f"search {name}"
    faults = _shape_faults(document, source)
    if faults:
        raise ConfigError(faults)
    settings = _settings(document.get("set", {}), f"[set] of {source}", faults)
    for key, value in settings.items():
        faults += set_key_faults(key, value, f"[set] of {source}")
    listed: list[object] = document["axis"]  # type: ignore[assignment]  # checked
    axes = [
        _axis(table, f"[[axis]] {number} of {source}", faults)
        for number, table in enumerate(listed, start=1)
    ]
    is_grid = bool(document.get("grid", False))
    if is_grid:
        faults += _shared_key_faults(axes, source)
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return Search(
        name=name,
        scenario=str(document["scenario"]),
        axes=tuple(axes),
        seeds=int(str(document.get("seeds", 1))),
        grid=is_grid,
        settings=settings,
        note=" ".join(str(document.get("note", "")).split()),
        targets=" ".join(str(document.get("targets", "")).split()),
    )


def _shape_faults(document: Mapping[str, object], source: str) -> list[str]:
    """What is missing, unknown or of another kind at the top of the document."""
    faults = []
    for key, value in document.items():
        if key not in _KINDS:
            close = get_close_matches(key, _KINDS, n=1, cutoff=0.6)
            remedy = f"did you mean {close[0]}?" if close else f"its keys are {', '.join(_KINDS)}"
            faults.append(f"unknown key {key} in {source}; {remedy}")
            continue
        kind, words = _KINDS[key]
        is_number = kind is int and not isinstance(value, bool)
        right = isinstance(value, kind) and (kind is not int or is_number)
        if not right or (key == "seeds" and value < 1):  # type: ignore[operator]  # a number
            faults.append(f"{key} must be {words} in {source}, got {shown(value)}; correct it")
    if "scenario" not in document:
        faults.append(f'{source} names no scenario; write for instance scenario = "distributed"')
    if document.get("axis", []) == []:
        faults.append(
            f"{source} has no axis; add one, for instance [[axis]] with "
            'key = "federation.local_lr" and values = [1.0, 2.0]'
        )
    return faults


def _axis(table: object, place: str, faults: list[str]) -> tuple[Point, ...]:
    names = set(table) if isinstance(table, dict) else set()
    if not isinstance(table, dict) or names not in ({"key", "values"}, {"points"}):
        held = ", ".join(sorted(names)) or "nothing"
        faults.append(
            f"{place} must hold key and values, or points, got {held}; write for instance "
            'key = "federation.local_lr" and values = [1.0, 2.0]'
        )
        return ()
    listed = table["points"] if "points" in table else table["values"]
    if not isinstance(listed, list) or not listed:
        what = "points" if "points" in table else "values"
        faults.append(f"{place} has no {what}, got {shown(listed)}; list at least one")
        return ()
    raw = listed if "points" in table else [{str(table["key"]): value} for value in listed]
    if {} in raw:
        faults.append(f"a point of {place} changes no key; give it one, or leave it out")
    points = [_settings(each, place, faults) for each in raw]
    for point in points:
        for key, value in point.items():
            faults += axis_key_faults(key, value, place)
    return tuple(points)


def _settings(table: object, place: str, faults: list[str]) -> dict[str, Setting]:
    """Dotted keys and plain values, written as one key or as nested tables."""
    if not isinstance(table, dict):
        faults.append(f"a point of {place} must be a table of keys, got {shown(table)}; correct it")
        return {}
    flat: dict[str, object] = {}
    for section, value in table.items():
        if isinstance(value, dict):
            flat |= {f"{section}.{key}": each for key, each in value.items()}
        else:
            flat[section] = value
    settings: dict[str, Setting] = {}
    for key, value in flat.items():
        if isinstance(value, bool | int | float | str):
            settings[key] = value
        else:
            faults.append(
                f"{key} in {place} must have plain values, got {shown(value)}; give a number, "
                "text, true or false"
            )
    return settings


def _shared_key_faults(axes: list[tuple[Point, ...]], source: str) -> list[str]:
    """Keys of several axes, of which a combination could hold only one value."""
    keys = [{key for point in axis for key in point} for axis in axes]
    twice = {key for n, mine in enumerate(keys) for other in keys[:n] for key in mine & other}
    return [
        f"{key} is on two axes of {source}, which is a grid; put its values on one of them"
        for key in sorted(twice)
    ]
