"""The scenarios that come with fedrec, and those that a researcher keeps in files."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

from common.errors import ConfigError

SCENARIO_FOLDER = Path(str(files("simulations"))) / "scenarios"


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
    names = list(bundled_scenarios())
    if name in names:
        return SCENARIO_FOLDER / f"{name}.toml"
    path = Path(name)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if not path.is_file():
            raise ConfigError([f"scenario {name} is no file; check its path"])
        return path
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]}?" if close else "name a TOML file, or one of them"
    raise ConfigError(
        [f"there is no scenario {name!r}; the scenarios are {', '.join(names)}; {remedy}"]
    )


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
