"""Training jobs that name a site and hold nothing: for tests of how jobs are handed on."""

from __future__ import annotations

import numpy as np

from client.training_job import TrainingJob
from common.config import RunConfig
from common.interactions import Catalogue
from common.randomness import seeded_source


def job_of(site: str) -> TrainingJob:
    return TrainingJob(
        site=site,
        config=RunConfig(),
        catalogue=Catalogue((), (), ()),
        units=[],
        adapter={},
        item_prior=np.zeros(0, dtype=np.float32),
        server_round=1,
        expected_units=1.0,
        sampling=seeded_source(0, site),
        noise=None,
    )
