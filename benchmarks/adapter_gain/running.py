"""Runs what is missing of the study or of its search, and measures all of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.adapter_gain.measuring import Bench, Stage, measure, measured, train
from benchmarks.adapter_gain.plan import COLD_SHARE, Cell
from common.config import RunConfig
from common.errors import ConfigError
from common.run_folder import RunFolder
from simulations.datasets import load_dataset


class Runner:
    """Keeps a data set loaded from one run to the next."""

    def __init__(self, stage: Stage, *, no_runs: bool) -> None:
        """`stage` is what is ranked; with `no_runs` only what was measured before is read."""
        self._stage: Stage = stage
        self._no_runs = no_runs
        self._benches: dict[str, Bench] = {}

    def figures(self, cell: Cell, config: RunConfig, path: Path) -> dict[str, Any] | None:
        """The figures of `measure` for the run of `config` in `path`; None: not to be run now.

        Raises:
            ConfigError: the folder holds a run of other settings.
        """
        is_begun = (path / "config.toml").is_file()
        if is_begun and RunFolder.open(path).read_config().sha256() != config.sha256():
            raise ConfigError([f"{path} was run with other settings; use another --out"])
        found = measured(path, self._stage)
        if found is None and not self._no_runs:
            _tell(f"run {path.name}")
            bench = self._bench(cell.dataset, config)
            train(bench, config, path)
            found = measure(bench, path, self._stage)
        return found

    def _bench(self, dataset: str, config: RunConfig) -> Bench:
        if dataset not in self._benches:
            whole = load_dataset(config.data, notify=_tell)
            self._benches[dataset] = Bench(whole, config, COLD_SHARE)
        return self._benches[dataset]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
