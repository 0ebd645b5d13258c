"""The drift of one site: its tables and its current adapter, read and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.drift import Drift, Timeline, measure_drift
from client.installed_adapter import ADAPTERS_FOLDER, CURRENT_FILE, current_folder
from client.site_data import SiteData, load_site
from common.adapter_export import hashes, read_export, read_manifest
from common.config import RunConfig
from common.errors import ExportError
from common.holdout import chronological
from common.loaded_recommender import loaded_recommender


def drift_of_site(site: Path, moment: int | None) -> tuple[Drift, int]:
    """Measure the drift at `site`, and say since when.

    Args:
        site: the site's folder.
        moment: unix seconds; None: when the current adapter was installed.

    Raises:
        ExportError: no adapter is installed, or it was changed.
        DataError: the tables cannot be used, or nothing lies on one side of the moment.
    """
    data = load_site(site)
    folder = current_folder(site)
    if folder is None:
        raise ExportError(
            f"{site} has no adapter to compare with; install one with `fedrec-site install-adapter`"
        )
    manifest = read_manifest(folder)
    if hashes(folder) != manifest.files:
        raise ExportError(f"{folder} was changed since it was installed; install it again")
    export = read_export(folder, manifest)
    if moment is None:
        moment = int((site / ADAPTERS_FOLDER / CURRENT_FILE).stat().st_mtime)
    recommender = loaded_recommender(
        export.config, data.catalogue, export.adapter, export.item_prior, export.item_to_item
    )
    return measure_drift(recommender, timelines(data, export.config), moment), moment


def timelines(data: SiteData, config: RunConfig) -> list[Timeline]:
    """Every user of the site, ordered as the run's evaluation orders them."""
    events = data.interactions
    order = chronological(events, data.catalogue, config.data.seed)
    ends = np.cumsum(np.bincount(events.user, minlength=len(events.user_ids)))
    parts = np.split(order, ends[:-1])
    return [
        Timeline(
            events.item[rows],
            events.timestamp[rows],
            {name: values[user] for name, values in data.users.attributes.items()},
        )
        for user, rows in enumerate(parts)
    ]
