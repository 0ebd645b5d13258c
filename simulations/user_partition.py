"""Simulation only: decides which user goes to which of the disjoint sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.config import DataConfig
from common.errors import DataError
from common.interactions import Catalogue, Dataset, Int64Array, Interactions, Users

UNKNOWN_GENRE = "unknown"
SMALLEST_ALPHA = 1e-6  # below this every group lands on one site anyway
PARTITION_STREAM = 0x7369746573  # keeps this random stream apart from others of the same seed


def partition_users(dataset: Dataset, config: DataConfig) -> list[Int64Array]:
    """Split the users into `config.sites` disjoint, non-empty sites.

    ``equal``: a random permutation; sizes differ by at most one.
    ``dirichlet``: users are grouped by `config.partition_by`; each group spreads over the
    sites in proportions drawn from Dir(`config.partition_alpha`) (Hsu et al. 2019), so a
    small alpha makes sites that differ. ``size_skewed``: sizes drawn from
    Dir(`config.partition_alpha`), users at random.

    Args:
        dataset: A checked data set with U users.
        config: The run's `data` section; `config.seed` seeds the partition.

    Returns:
        One sorted int64 array of user indices for each site; together each of the U users once.

    Raises:
        DataError: More sites than users, or `partition_by` names nothing that the data has.
    """
    genres = None
    if config.partition == "dirichlet" and config.partition_by == "genre":
        genres = favourite_genres(dataset.interactions, dataset.catalogue, dataset.name)
    return split_users(dataset.users, dataset.name, config, genres)


def split_users(
    who: Users, name: str, config: DataConfig, genres: Sequence[str] | None = None
) -> list[Int64Array]:
    """As `partition_users`, of users by themselves.

    Args:
        who: the users.
        name: of the data set, for messages.
        config: The run's `data` section.
        genres: each user's favourite genre, where the partition goes by it.

    Raises:
        DataError: as `partition_users`.
    """
    users = len(who.user_ids)
    if config.sites > users:
        raise DataError(
            f"data.sites={config.sites} is more than the {users} users of {name}; "
            f"set data.sites to at most {users}"
        )
    rng = np.random.default_rng([config.seed, PARTITION_STREAM])
    if config.partition == "equal":
        parts = np.array_split(rng.permutation(users), config.sites)
    elif config.partition == "dirichlet":
        labels = genres if genres is not None else user_labels(who, name, config.partition_by)
        parts = _dirichlet_parts(labels, config.sites, config.partition_alpha, rng)
    else:
        sizes = _skewed_sizes(users, config.sites, config.partition_alpha, rng)
        parts = np.split(rng.permutation(users), np.cumsum(sizes)[:-1])
    return [np.sort(part).astype(np.int64) for part in parts]


def user_labels(who: Users, name: str, partition_by: str) -> list[str]:
    """Each user's value of an attribute.

    Raises:
        DataError: The data set has no such attribute.
    """
    attributes = who.attributes
    if partition_by not in attributes:
        known = ", ".join(["genre", *sorted(attributes)])
        raise DataError(
            f"data.partition_by={partition_by!r} is no attribute of {name}; use one of {known}"
        )
    return list(attributes[partition_by])


def favourite_genres(interactions: Interactions, catalogue: Catalogue, name: str) -> list[str]:
    """The genre of most of a user's interactions; of equals the first by name.

    A user whose items have no genre gets ``unknown``.

    Raises:
        DataError: No item of the catalogue has a genre.
    """
    genres = catalogue.genres
    names = sorted({genre for row in genres for genre in row})
    if not names:
        raise DataError(
            f"data.partition_by='genre' but no item of {name} has a genre; "
            "partition by a user attribute"
        )
    index = {name: column for column, name in enumerate(names)}
    membership = np.zeros((len(genres), len(names)))
    for item, row in enumerate(genres):
        membership[item, [index[genre] for genre in row]] = 1
    counts = np.zeros((len(interactions.user_ids), len(names)))  # [U, G]
    np.add.at(counts, interactions.user, membership[interactions.item])
    best = counts.argmax(axis=1)
    return [names[b] if row[b] > 0 else UNKNOWN_GENRE for b, row in zip(best, counts, strict=True)]


def _dirichlet_parts(
    labels: Sequence[str], sites: int, alpha: float, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    values = np.asarray(labels)
    site_of_user = np.zeros(len(labels), dtype=np.int64)
    for label in sorted(set(labels)):
        members = rng.permutation(np.flatnonzero(values == label))
        site_of_user[members] = rng.choice(
            sites, size=len(members), p=_proportions(sites, alpha, rng)
        )
    _fill_empty_sites(site_of_user, sites, rng)
    return [np.flatnonzero(site_of_user == site) for site in range(sites)]


def _fill_empty_sites(
    site_of_user: npt.NDArray[np.int64], sites: int, rng: np.random.Generator
) -> None:
    """Give each empty site one random user of the site that is then the largest."""
    sizes = np.bincount(site_of_user, minlength=sites)
    for site in np.flatnonzero(sizes == 0):
        largest = int(sizes.argmax())
        moved = rng.choice(np.flatnonzero(site_of_user == largest))
        site_of_user[moved] = site
        sizes[largest] -= 1
        sizes[site] = 1


def _skewed_sizes(
    users: int, sites: int, alpha: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    extra = rng.multinomial(users - sites, _proportions(sites, alpha, rng))
    return (extra + 1).astype(np.int64)


def _proportions(sites: int, alpha: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Dir(alpha) over the sites, computed in logs so that a tiny alpha cannot underflow."""
    alpha = max(alpha, SMALLEST_ALPHA)
    # Gamma(alpha) = Gamma(alpha + 1) · U^(1/alpha)  (Marsaglia & Tsang 2000)
    log_gamma = np.log(rng.gamma(alpha + 1, size=sites)) + np.log1p(-rng.random(sites)) / alpha
    weights = np.exp(log_gamma - log_gamma.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)
