"""Lays out the Flower app that ``flwr run`` bundles: three packages and a pyproject."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import tomli_w

from common.config import RunConfig
from common.run_keys import RESUME, RUN_KEYS

PACKAGES = ("common", "client", "server")
APP_NAME = "fedrec"


def stage_app(folder: Path) -> Path:
    """Copies the packages that a bundle needs, from wherever they are installed.

    Args:
        folder: an existing folder, outside of any repository.

    Returns:
        The app's folder, ready for ``flwr run``.
    """
    app = folder / APP_NAME
    for package in PACKAGES:
        source = Path(str(importlib.import_module(package).__file__)).parent
        shutil.copytree(source, app / package, ignore=shutil.ignore_patterns("__pycache__"))
    (app / "pyproject.toml").write_text(tomli_w.dumps(app_project()), encoding="utf-8")
    return app


def app_project() -> dict[str, Any]:
    """The bundle's pyproject: Flower's section with every key that a run can be given."""
    return {
        "project": {
            "name": APP_NAME,
            "version": "0.0.0",
            "description": "fedrec, staged for one simulated run",
            "license": "Apache-2.0",
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": APP_NAME,
                    "components": {"serverapp": "server.app:app", "clientapp": "client.app:app"},
                    "config": {**RUN_KEYS, **RunConfig().model_dump()},
                }
            }
        },
    }


def write_run_config(path: Path, config: RunConfig, resume: str = "") -> Path:
    """Writes every key as TOML for ``flwr run --run-config``.

    Args:
        path: of the file.
        config: the run's configuration.
        resume: the run to go on with, by name; empty: a new run.
    """
    keys = {RESUME: resume, **config.model_dump()}
    path.write_text(tomli_w.dumps(keys), encoding="utf-8")
    return path
