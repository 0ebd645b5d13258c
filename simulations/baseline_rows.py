"""The rows of the baselines: all on the run's split, all through one code path."""

from __future__ import annotations

from collections.abc import Sequence

from common.adapters import load_adapter
from common.config import RunConfig
from common.holdout import UserSplit
from common.initial_adapter import initial_adapter
from common.recommender import Recommender
from simulations.baselines import (
    choose_ease,
    choose_implicit_als,
    choose_item_knn,
    choose_recency_ease,
    dp_popularity_metrics,
    popularity_scorer,
    random_scorer,
    solve_ease,
    text_floor_metrics,
)
from simulations.baselines.dp_popularity import NoiseForm
from simulations.evaluation.full_ranking import Scorer, evaluate_scorer
from simulations.report import EvaluatedRow

POOLED = "pooled data, no privacy"


def baseline_rows(
    config: RunConfig, recommender: Recommender, splits: Sequence[UserSplit]
) -> list[EvaluatedRow]:
    """Train each baseline on train, choose its settings on validation, and look at test once.

    Args:
        config: the run's configuration.
        recommender: of the run; it gets the untrained adapter for the text floor's vectors.
        splits: one per user.

    Returns:
        The rows; those of the private floors only in a private mode.
    """
    items, seed = len(recommender.item_prior), config.data.seed
    solved = solve_ease(splits, items)
    ease, penalty = choose_ease(splits, solved)
    fading, (its_penalty, half_life) = choose_recency_ease(splits, solved)
    knn, neighbours = choose_item_knn(splits, items)
    als, confidence = choose_implicit_als(splits, items, seed)
    on = "chosen on validation"
    scorers: list[tuple[str, Scorer, str]] = [
        ("Random", random_scorer(items, seed), ""),
        ("Pop", popularity_scorer(splits, items), POOLED),
        ("ItemKNN", knn, f"{POOLED}, k={neighbours} {on}"),
        ("iALS", als, f"{POOLED}, confidence {confidence:g} {on}"),
        ("EASE", ease, f"{POOLED}, λ={penalty:g} {on}"),
        (
            "EASE, recency-weighted",
            fading,
            f"{POOLED}, λ={its_penalty:g} and half-life {half_life:g} items {on}",
        ),
    ]
    rows = [
        EvaluatedRow(
            name,
            "baseline",
            evaluate_scorer(scorer, splits, "test"),
            note=note,
            is_reference=name == "Pop",
        )
        for name, scorer, note in scorers
    ]
    return rows + (_private_floors(config, recommender, splits) if config.is_private else [])


def _private_floors(
    config: RunConfig, recommender: Recommender, splits: Sequence[UserSplit]
) -> list[EvaluatedRow]:
    """DP-Pop and the text floor, each spending the run's whole ε on its one release."""
    privacy, items = config.privacy, len(recommender.item_prior)
    form: NoiseForm = "central" if config.is_summed else "local"
    load_adapter(recommender, initial_adapter(config))
    vectors = recommender.item_tower.table().cpu().numpy()
    popularity = dp_popularity_metrics(
        splits,
        items,
        "test",
        epsilon=privacy.target_epsilon,
        delta=privacy.target_delta,
        form=form,
        sites=config.data.sites,
    )
    text = text_floor_metrics(
        vectors,
        splits,
        "test",
        epsilon=privacy.target_epsilon,
        delta=privacy.target_delta,
        form=form,
        sites=config.data.sites,
    )
    where = "once on the sum over all sites" if config.is_summed else "at every site"
    note = f"all of ε on one release, noise {where}"
    if privacy.unit != "user":
        note += f"; ε per user, which promises more than per {privacy.unit}"
    epsilon = privacy.target_epsilon
    return [
        EvaluatedRow("DP-Pop", "dp_popularity", popularity, privacy.mode, epsilon, note),
        EvaluatedRow("DP-Pop + on-site text", "text_floor", text, privacy.mode, epsilon, note),
    ]
