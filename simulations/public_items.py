"""A federation's public items: their file, and the hash of their vectors in a configuration."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from common.atomic_files import file_errors
from common.config import DataConfig, RunConfig
from common.errors import ConfigError, DataError
from common.interactions import Dataset
from common.site_folder import write_catalogue
from simulations.companions import companion_config
from simulations.datasets import load_population
from simulations.movielens_sources import Notify


def write_public_items(config: DataConfig, out: Path, *, notify: Notify) -> dict[str, str]:
    """Write the catalogue of `config` for sites that have interactions of their own.

    Returns:
        What a coordinator tells them: number of items and hashes, by name.

    Raises:
        DataError: The data cannot be had, or `out` is no Parquet file.
        RunFolderError: `out` cannot be written; a file that was there is as it was.
    """
    if out.suffix != ".parquet":
        raise DataError(f"{out}: the catalogue is a Parquet file; use a name ending in .parquet")
    catalogue = load_population(config, notify=notify).catalogue
    with file_errors("write", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=out.parent) as made:
            write_catalogue(Path(made) / out.name, catalogue)
            os.replace(Path(made) / out.name, out)
    told = {"items": str(len(catalogue)), "items.catalogue_sha256": catalogue.sha256}
    if catalogue.vectors is not None:
        told["numbers of an item vector"] = str(catalogue.vectors.width)
        told["model.item_vectors_sha256"] = catalogue.vectors.sha256
    return told


def with_item_hash(config: RunConfig, dataset: Dataset | None) -> RunConfig:
    """`config` with the hash of the item vectors that it reads, if it needs one and has none.

    Args:
        config: of the run.
        dataset: the pooled data, if they are loaded.

    Raises:
        ConfigError: they are not loaded.
        DataError: they have no item vectors.
    """
    if config.model.item_vectors_weight == 0 or config.model.item_vectors_sha256:
        return config
    if dataset is None:
        raise ConfigError(
            [
                "model.item_vectors_weight with evaluation.lab=false has no hash of the vectors, "
                "because the data are not loaded at once; set model.item_vectors_sha256 to what "
                "`fedrec data catalogue` prints"
            ]
        )
    vectors = dataset.catalogue.vectors
    if vectors is None:
        raise DataError(
            f"model.item_vectors_weight={config.model.item_vectors_weight}: {dataset.name} has no "
            "item vectors; set data.item_vectors or data.item_graph, or "
            "model.item_vectors_weight=0"
        )
    return companion_config(config, {"model.item_vectors_sha256": vectors.sha256})
