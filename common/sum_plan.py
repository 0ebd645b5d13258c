"""What a run with noise on the sum agrees on: grid, modulus, noise, and each round's spec.

Every value follows from the run's configuration, which is hashed into every message, and
from public sizes: a site computes them itself and takes none from the server.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.config import RunConfig
from common.errors import PrivacyError
from common.noise_plan import noise_multiplier
from common.secagg.quantisation import QuantisationPlan
from common.secagg.round_spec import RoundSpec


def update_plan(config: RunConfig, coordinates: int) -> QuantisationPlan:
    """The plan of every training round; `coordinates` is the size of the adapter."""
    return _plan(
        config,
        coordinates,
        max_grad_norm=config.privacy.max_grad_norm,
        sigma=noise_multiplier(config),
        rounds=config.federation.rounds,
    )


def popularity_plan(config: RunConfig, items: int) -> QuantisationPlan:
    """The plan of the popularity sum over a catalogue of `items`; a unit's norm is 1."""
    sigma = config.privacy.popularity_noise_multiplier
    return _plan(config, items, max_grad_norm=1.0, sigma=sigma, rounds=1)


def cooccurrence_plan(config: RunConfig, cells: int) -> QuantisationPlan:
    """The plan of the co-occurrence sum over a triangle of `cells`; a unit's norm is 1."""
    sigma = config.privacy.cooccurrence_noise_multiplier
    return _plan(config, cells, max_grad_norm=1.0, sigma=sigma, rounds=1)


def sum_number(config: RunConfig, purpose: str, server_round: int) -> int:
    """The number of a sum within its run; a site enters each once, in rising order.

    Popularity and co-occurrence are both of round 0, so that training's sums count from 2 where
    there are two of them.
    """
    if purpose == "cooccurrence":
        return 1
    return server_round + int(config.model.item_to_item and server_round > 0)


def round_spec(
    config: RunConfig,
    run: str,
    number: int,
    participants: Sequence[str],
    plan: QuantisationPlan,
) -> RoundSpec:
    """One round of secure aggregation, with its `sum_number`, among `participants`, sorted.

    Raises:
        PrivacyError: so few sites that the noise of those certain to stay falls short.
        MessageError: the participants fit no round.
    """
    return RoundSpec(
        run=run.encode(),
        server_round=number,
        config_hash=bytes.fromhex(config.sha256()),
        participants=tuple(participants),
        max_dropouts=dropouts_among(config, len(participants)),
        max_colluders=config.privacy.max_colluders,
        length=plan.coordinates,
        modulus_bits=plan.modulus_bits,
    )


def dropouts_among(config: RunConfig, participants: int) -> int:
    """How many of `participants` may vanish: fewer, once sites have left the run for good.

    Raises:
        PrivacyError: not even all of them together are sure to carry the noise.
    """
    privacy = config.privacy
    spare = participants - privacy.max_colluders - config.min_honest
    if spare < 0:
        raise PrivacyError(
            f"{participants} sites are left, of which {privacy.max_colluders} may collude, and "
            f"the noise is shared among privacy.min_honest={config.min_honest}; connect more "
            "sites, or start with a lower min_honest"
        )
    return min(config.max_dropouts, spare)


def _plan(
    config: RunConfig, coordinates: int, *, max_grad_norm: float, sigma: float, rounds: int
) -> QuantisationPlan:
    return QuantisationPlan(
        sites=config.data.sites,
        min_honest=config.min_honest,
        coordinates=coordinates,
        max_grad_norm=max_grad_norm,
        noise_multiplier=sigma,
        site_units=config.privacy.max_site_units,
        rounds=rounds,
    )
