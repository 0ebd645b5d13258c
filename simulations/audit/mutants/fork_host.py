"""Runs the named checks on many scratch copies, with the libraries loaded once.

Started by its path, never imported: this process must hold none of the project's packages, so
that each child of it loads them from the copy that it is sent to. Reads JSON tasks from its
standard input, works on a few at a time, and prints the number of each that ended.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch",
    "opacus",
    "peft",
    "transformers.models.bert.modeling_bert",
    "flwr.app",
    "flwr.clientapp",
    "flwr.serverapp.grid",
    "flwr.supercore.run",
    "dp_accounting.pld",
    "scipy.stats",
    "scipy.optimize",
    "pyarrow.parquet",
    "pyarrow.compute",
    "pandas",
    "safetensors.numpy",
    "cryptography.hazmat.primitives.asymmetric.x25519",
)
CHECKS = "simulations.audit.named_checks"
RESULT, TROUBLE = "findings.json", "trouble.txt"


def main() -> None:
    """Works through the tasks: folder of the packages and rooms, by number."""
    content: dict[str, Any] = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    for library in LIBRARIES:
        importlib.import_module(library)
    running: dict[int, int] = {}
    for number, task in enumerate(content["tasks"]):
        if len(running) >= content["jobs"]:
            _wait_for_one(running)
        running[_forked(task["packages"], task["rooms"])] = number
    while running:
        _wait_for_one(running)


def _wait_for_one(running: dict[int, int]) -> None:
    child, _ = os.wait()
    print(running.pop(child), flush=True)


def _forked(packages: str, rooms: list[str]) -> int:
    """A child that writes its findings into the copy, or what went wrong."""
    child = os.fork()
    if child:
        return child
    trouble = os.open(Path(packages) / TROUBLE, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(trouble, 2)
    code = 1
    try:
        os.chdir(packages)
        sys.path.insert(0, packages)
        checks = importlib.import_module(CHECKS)
        (Path(packages) / RESULT).write_text(checks.results(rooms), encoding="utf-8")
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
