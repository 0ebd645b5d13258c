"""The scenarios and searches that come with fedrec, and those that a researcher keeps in files."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

from common.errors import ConfigError

SCENARIO_FOLDER = Path(str(files("simulations"))) / "scenarios"
SEARCH_FOLDER = SCENARIO_FOLDER.with_name("searches")


def bundled_scenarios() -> dict[str, str]:
    """Return what each bundled scenario is for, by its name, from its first comment."""
    paths = sorted(SCENARIO_FOLDER.glob("*.toml"))
    return {path.stem: _first_comment(path) for path in paths}


def find_scenario(name: str) -> Path:
    """Return the file of the scenario `name`.

    Args:
        name: name of a bundled scenario, or the path of a TOML file.

    Raises:
        ConfigError: there is neither such a scenario nor such a file.
    """
    return _find(name, "scenario", "scenarios", SCENARIO_FOLDER)


def find_search(name: str) -> Path:
    """Return the file of the search `name`.

    Args:
        name: name of a bundled search, or the path of a TOML file.

    Raises:
        ConfigError: there is neither such a search nor such a file.
    """
    return _find(name, "search", "searches", SEARCH_FOLDER)


def _find(name: str, one: str, many: str, folder: Path) -> Path:
    names = sorted(path.stem for path in folder.glob("*.toml"))
    if name in names:
        return folder / f"{name}.toml"
    path = Path(name)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if not path.is_file():
            raise ConfigError([f"{one} {name} is no file; check its path"])
        return path
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]}?" if close else "name a TOML file, or one of them"
    raise ConfigError([f"there is no {one} {name!r}; the {many} are {', '.join(names)}; {remedy}"])


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
