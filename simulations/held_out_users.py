"""Simulation only: the users that a run keeps out of all sites, so that they can be told from it.

An attack on membership needs people of the same kind that were certainly not trained on. The
draw is public (`data.seed`): a run with held-out users is made to be audited.
"""

from __future__ import annotations

import numpy as np

from common.config import DataConfig
from common.errors import DataError
from common.interactions import Dataset, Int64Array, Interactions, Users

HELD_OUT_STREAM = 0x68656C64  # keeps this random stream apart from others of the same seed


def participants(population: Dataset, config: DataConfig) -> Dataset:
    """The users that the run's sites hold; the population itself where nobody is held out.

    Raises:
        DataError: Nobody would be left.
    """
    if config.held_out_users == 0:
        return population
    return of_users(population, _divided(population, config)[0])


def held_out(population: Dataset, config: DataConfig) -> Dataset | None:
    """The users that no site of the run holds; None where there are none.

    Raises:
        DataError: Nobody would be left at the sites.
    """
    out = _divided(population, config)[1]
    return of_users(population, out) if len(out) else None


def of_users(dataset: Dataset, users: Int64Array) -> Dataset:
    """The same data set with these users alone.

    Args:
        dataset: a checked data set.
        users: distinct indices of users, increasing, at least one.
    """
    rows = dataset.interactions
    place = np.full(len(rows.user_ids), -1, dtype=np.int64)
    place[users] = np.arange(len(users))
    kept = place[rows.user] >= 0
    ids = tuple(rows.user_ids[user] for user in users)
    return Dataset(
        name=dataset.name,
        catalogue=dataset.catalogue,
        interactions=Interactions(
            ids,
            place[rows.user[kept]],
            rows.item[kept],
            rows.rating[kept],
            rows.timestamp[kept],
        ),
        users=Users(
            ids,
            {
                name: tuple(values[user] for user in users)
                for name, values in dataset.users.attributes.items()
            },
        ),
        report=dataset.report,
        licence=dataset.licence,
    )


def _divided(population: Dataset, config: DataConfig) -> tuple[Int64Array, Int64Array]:
    """Who is in and who is out, each increasing."""
    users = len(population.users.user_ids)
    out = round(config.held_out_users * users)
    if out >= users:
        raise DataError(
            f"data.held_out_users={config.held_out_users} keeps all {users} users of "
            f"{population.name} out; lower it"
        )
    order = np.random.default_rng([config.seed, HELD_OUT_STREAM]).permutation(users)
    return np.sort(order[out:]).astype(np.int64), np.sort(order[:out]).astype(np.int64)
