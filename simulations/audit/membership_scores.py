"""A6: attacks' scores of a user, higher where they seem to have been trained on."""

from __future__ import annotations

import math

import numpy as np

from common.errors import PrivacyError
from simulations.audit.binomial_bounds import Floats


def loss_scores(model_loss: Floats) -> Floats:
    """Members are fitted better: minus the user's loss."""
    return -model_loss


def calibrated_scores(model_loss: Floats, base_loss: Floats) -> Floats:
    """How much training lowered the user's loss below the public base model's."""
    return base_loss - model_loss


def rmia_scores(
    target: Floats,
    reference: Floats,
    population: Floats,
    population_reference: Floats,
    offline_a: float,
    gamma: float = 1.0,
) -> Floats:
    """Offline RMIA (Zarifzadeh, Liu & Shokri 2024): share of others that a user dominates.

    LR(x, z) = [p(x|θ) ÷ p̄(x)] ÷ [p(z|θ) ÷ p̄(z)], p̄ = ((1 + a)·p_out + (1 − a)) ÷ 2,
    score = Pr_z[LR > γ] + ½·Pr_z[LR = γ]. The paper's is Pr_z[LR ≥ γ]; with half a tie, an
    other that is scored against a population with itself in it ranks neither above nor below
    its place, and the order of users is that of their ratios.

    Args:
        target: [n] p(x|θ) in (0, 1] of the users under the attacked model.
        reference: [R, n] the same under reference models that were not trained on them.
        population: [k] p(z|θ) of users that are certainly no members.
        population_reference: [R, k].
        offline_a: a in [0, 1], chosen on reference models only.
        gamma: γ > 0.

    Returns:
        [n] scores in [0, 1].

    Raises:
        PrivacyError: shapes that do not fit, or a probability outside (0, 1].
    """
    if reference.shape[1:] != target.shape or population_reference.shape[1:] != population.shape:
        raise PrivacyError(
            f"reference probabilities {reference.shape}, {population_reference.shape} must be "
            f"[references, users] for {target.shape} users and {population.shape} others"
        )
    if population.size == 0 or not (0 <= offline_a <= 1 and gamma > 0):
        raise PrivacyError(
            f"offline RMIA needs others, a in [0, 1] and gamma > 0, got {population.size}, "
            f"{offline_a} and {gamma}"
        )
    for values in (target, reference, population, population_reference):
        if not ((values > 0) & (values <= 1)).all():
            raise PrivacyError("offline RMIA needs probabilities in (0, 1]; give exp(-mean loss)")
    ours = np.log(target) - np.log(_average(reference, offline_a))
    theirs = np.log(population) - np.log(_average(population_reference, offline_a))
    reached, ordered = ours - math.log(gamma), np.sort(theirs)
    # The margins keep ties that are exact but for rounding.
    below = np.searchsorted(ordered, reached - 1e-12, side="left")
    upto = np.searchsorted(ordered, reached + 1e-12, side="right")
    return (below + upto) / (2 * len(theirs))


def _average(reference: Floats, a: float) -> Floats:
    return np.asarray(((1 + a) * reference.mean(axis=0) + (1 - a)) / 2)
