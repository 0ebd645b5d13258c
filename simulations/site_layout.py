"""Writes the simulated sites of a run in the layout that fits their number and their data."""

from __future__ import annotations

from pathlib import Path

from common.config import DataConfig
from common.interactions import Dataset
from simulations.datasets import load_dataset
from simulations.movielens_sources import Notify
from simulations.partition import write_pool, write_site_folders
from simulations.public.shown import refuse_shown_in_pool
from simulations.streamed_partition import can_be_streamed, stream_pool

POOLED_ABOVE = 1000
"""More sites than this are pooled, unless it is told otherwise."""


def write_sites(
    config: DataConfig,
    folder: Path,
    *,
    dataset: Dataset | None = None,
    pooled: bool | None = None,
    notify: Notify = lambda _message: None,
) -> None:
    """Partitions the data set of `config` into the federation folder `folder`.

    Args:
        config: the run's `data` section.
        folder: gets `config.sites` sites, whole or not at all.
        dataset: the data set, if it is loaded anyway. None: it is loaded here; or streamed,
            where it is a folder with Parquet interactions, the sites are pooled, and no users
            are held out.
        pooled: whether the sites lie in common files; None: if there are more than
            `POOLED_ABOVE`.
        notify: gets a line for each step of a fetch.

    Raises:
        DataError: the data cannot be had or partitioned, or the folder cannot be written.
    """
    pooled = config.sites > POOLED_ABOVE if pooled is None else pooled
    if pooled:
        refuse_shown_in_pool(config)
    everybody = config.held_out_users == 0
    if dataset is None and pooled and everybody and can_be_streamed(config.dataset):
        stream_pool(config, folder)
        return
    found = dataset if dataset is not None else load_dataset(config, notify=notify)
    write = write_pool if pooled else write_site_folders
    write(found, config, folder)
