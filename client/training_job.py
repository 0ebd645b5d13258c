"""What a site agent asks of whoever computes its training: one site by itself, or many at once.

A deployed site trains by itself (`client.site_by_site`, the Opacus step). A simulation may
give the agents of many sites a trainer that does their work in one batch; policy, budget,
ledger, randomness and release stay the agent's own, and the results are the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from common.adapters import Adapter
from common.config import RunConfig
from common.flat_adapter import Floats
from common.interactions import Catalogue
from common.privacy_units import Unit
from common.randomness import RandomSource


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """One site's training in one round. It never leaves the process.

    Attributes:
        site: the site's name.
        config: the run's configuration.
        catalogue: the public items.
        units: the site's privacy units.
        adapter: the received adapter, where training starts.
        item_prior: ``[V]`` float32, or ``[0]`` where the run has none.
        server_round: from 1.
        expected_units: public divisor, declared units × sample rate.
        sampling: the site's source of the Poisson sample and of contributions.
        noise: the site's source of Gaussian noise; None where none is added (mode `none`, or
            a sum whose noise comes later).
    """

    site: str
    config: RunConfig
    catalogue: Catalogue
    units: Sequence[Unit]
    adapter: Adapter
    item_prior: npt.NDArray[np.float32]
    server_round: int
    expected_units: float
    sampling: RandomSource
    noise: RandomSource | None


class Trainer(Hashable, Protocol):
    """Who computes a site's training. Agents are kept by their trainer, so it is hashable."""

    def update(self, job: TrainingJob) -> Adapter:
        """The trained adapter minus the received one: noised in a private mode, else exact."""
        ...

    def exact_sum(self, job: TrainingJob) -> Floats:
        """Σ of the sampled units' clipped updates, ``[d]`` flattened; no noise is in it yet."""
        ...
