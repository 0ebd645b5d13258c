"""Companion runs: the same federation with some settings changed, for a row or table of the report.

A companion is a whole federation in a folder of its own inside the run's, with its own
records and ledgers. It is the lab's: in a deployment each would be a run that spends budget.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.config import RunConfig
from common.interactions import Dataset
from common.progress import ProgressListener, SilentListener
from common.run_folder import RunFolder
from simulations.engines import run_engine
from simulations.simulated_sites import simulated_sites

COMPANIONS_FOLDER = "companions"


def companion_config(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """`config` with some dotted keys changed, checked as a whole.

    Raises:
        ValueError: the changed configuration is none.
    """
    sections = config.model_dump()
    for key, value in changes.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    return RunConfig.model_validate(sections)


def run_companion(
    name: str,
    config: RunConfig,
    run: RunFolder,
    dataset: Dataset,
    listener: ProgressListener | None = None,
) -> RunFolder:
    """Runs a companion of a run.

    Args:
        name: Of its folder under ``companions/``.
        config: The companion's whole configuration; its sites are made anew, so that no ledger
            of `data.sites_folder` is charged.
        run: The folder of the run that it accompanies.
        dataset: The pooled data of both.
        listener: Hears of the companion's progress; nobody, where left out.

    Returns:
        The companion's folder, with its adapter and checkpoint.

    Raises:
        FederationError: The companion could not go on.
    """
    folder = RunFolder.create(run.path / COMPANIONS_FOLDER / name)
    folder.write_config(config)
    own = companion_config(config, {"data.sites_folder": ""})
    with simulated_sites(dataset, own, folder) as sited:
        run_engine(sited, folder, listener or SilentListener())
    return folder
