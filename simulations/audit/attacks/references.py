"""A6: reference models of an attacker, who has people of the same kind and the run's recipe."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from common.config import RunConfig
from common.errors import FedrecError
from common.interactions import Dataset, Int64Array
from common.run_folder import RunFolder
from simulations.audit.attacks.membership_attacks import References
from simulations.audit.attacks.released_model import ReleasedModel
from simulations.companions import companion_config, run_companion
from simulations.held_out_users import of_users
from simulations.run_statistics import run_statistics

MOST_REFERENCES = 4
TRAINED_ON = 0.75
"""Share of the attacker's own users that each reference is trained on, drawn anew for each."""

UNTRAINED = "calibrated by the untrained adapter, not by reference models"


def reference_models(
    config: RunConfig,
    outsiders: Dataset,
    *,
    members: int,
    run_seconds: float,
    seconds_left: float,
    seed: int,
) -> References:
    """Train references on half of the outsiders, as many as the time allows.

    The other half is what is left to be told from the members.

    Args:
        config: of the attacked run.
        outsiders: users that it kept out.
        members: number of users that it trained on.
        run_seconds: how long its rounds took.
        seconds_left: of the budget.
        seed: of the draws of users.
    """
    rng = np.random.default_rng(seed)
    users = len(outsiders.users.user_ids)
    order = rng.permutation(users)
    own, left = np.sort(order[: users // 2]), np.sort(order[users // 2 :])
    size = math.ceil(TRAINED_ON * len(own))
    each = 10 + 2 * run_seconds * size / max(1, members)
    count = min(MOST_REFERENCES, int(seconds_left / each))
    if count < 1 or size < config.federation.min_sites:
        return References(
            (),
            range(users),
            f"{UNTRAINED}: one would take about {each:.0f} s and {max(0.0, seconds_left):.0f} s "
            f"of the budget are left, with {size} users to train on",
        )
    try:
        models = tuple(
            _reference(config, of_users(outsiders, np.sort(rng.choice(own, size, replace=False))))
            for _ in range(count)
        )
    except (FedrecError, ValidationError) as fault:
        reason = " ".join(str(fault).split())[:200]
        return References((), range(users), f"{UNTRAINED}: one could not be trained ({reason})")
    return References(
        models,
        _places(left),
        f"against {count} reference models by the run's own recipe, each trained on {size} users "
        "that the run kept out",
    )


def _reference(config: RunConfig, people: Dataset) -> ReleasedModel:
    sites = max(3, min(config.data.sites, len(people.users.user_ids) // 2))
    own = companion_config(
        config,
        {
            "data.held_out_users": 0.0,
            "data.sites_folder": "",
            "data.sites": min(sites, config.data.sites),
            "evaluation.metrics": "none" if config.federation.weighting != "fair" else "exact",
            "evaluation.companions": "",
        },
    )
    with tempfile.TemporaryDirectory(prefix="fedrec-reference-") as scratch:
        folder = run_companion("reference", own, RunFolder(Path(scratch)), people)
        adapter, _ = folder.read_adapter()
        prior = run_statistics(folder).item_prior
    return ReleasedModel(own, people.catalogue, adapter, prior)


def _places(left: Int64Array) -> list[int]:
    return [int(place) for place in left]
