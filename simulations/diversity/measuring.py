"""A finished run's trade-off curve: its model scores every user of its data once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from common.build_recommender import build_recommender
from common.errors import DataError
from common.requests import requests_of
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.diversity.curve import CurvePoint, candidates_of, curve
from simulations.evaluation.full_ranking import Stage, targets_of
from simulations.fairness.fairness_row import Audience
from simulations.lab import held_out
from simulations.run_scorer import run_scorer


def measure_run(
    folder: RunFolder, stage: Stage, listen: Callable[[str], None] = lambda _: None
) -> list[CurvePoint]:
    """Measure the run in `folder` on `stage` of every user; `listen` hears of what comes next.

    Raises:
        DataError: the data are not there, or the catalogue has no genres.
        RunFolderError: the run has no adapter yet.
    """
    config = folder.read_config()
    dataset = load_dataset(config.data)
    if not any(dataset.catalogue.genres):
        raise DataError(
            f"data set {dataset.name} has no genres, which lists are calibrated by; "
            "use a run over one that has"
        )
    splits = [split for split in held_out(config, dataset) if len(targets_of(split, stage))]
    audience = Audience.of(
        splits, len(dataset.catalogue), config.evaluation.bootstrap_resamples, config.data.seed
    )
    recommender = build_recommender(config, dataset.catalogue)
    run_scorer(recommender, folder)  # loads the run
    with torch.no_grad():
        vectors = recommender.item_tower.table().float().cpu().numpy()  # texts, not whitened
    scores = recommender.score_all(requests_of(audience.splits, stage))
    prior = recommender.item_prior.cpu().numpy().astype(np.float32)
    found = candidates_of(scores, audience, stage, dataset.catalogue, vectors, prior)
    return curve(found, audience, stage, listen)
