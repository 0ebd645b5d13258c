from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from common.atomic_files import write_json
from simulations.search.planning import own_settings, plan_search
from simulations.search.question import Search, read_question
from simulations.search.search_file import SearchFile
from simulations.search.search_folder import SearchFolder
from simulations.search.summary import summarise
from simulations.sweeps.run_pool import RunEnd
from tests.simulations.comparison.conftest import WriteRun, write_run

__all__ = ["write_run"]

AXIS = '[[axis]]\nkey = "federation.local_lr"\nvalues = [0.5, 2.0]\n'
SCENARIO = "[federation]\nlocal_lr = 1.0\n[evaluation]\nbootstrap_resamples = 100\n"
Searched = Callable[..., tuple[SearchFolder, SearchFile]]


def asked(text: str = AXIS, top: str = "") -> Search:
    return read_question("toy", tomllib.loads(f'scenario = "toy"\n{top}\n{text}'))


@pytest.fixture
def searched(
    tmp_path: Path, write_run: WriteRun, write_scenario: Callable[[str], Path]
) -> Searched:
    """A search over two seeds, made by hand: each point's level of every metric, if finished."""

    def make(levels: dict[tuple[str, int], float]) -> tuple[SearchFolder, SearchFile]:
        scenario = write_scenario(SCENARIO)
        search = asked(top="seeds = 2")
        runs = plan_search(search, scenario)
        folder = SearchFolder(tmp_path / "runs" / "found")
        for run in runs:
            if (run.point, run.seed) in levels:
                level = levels[run.point, run.seed]
                path = write_run(
                    f"found/{run.path}", model=level, seed=run.seed, stage="validation"
                )
                outcome = {"schema_version": 1, "epsilon": 7.9, "delta": 1e-4, "seconds": 3.0}
                write_json(path / "outcome.json", outcome)
        failed = {run.path: RunEnd(2, "too few sites") for run in runs if run.seed == 1}
        own = own_settings(search, scenario)
        return folder, summarise(folder, search, own, runs, failed)

    return make
