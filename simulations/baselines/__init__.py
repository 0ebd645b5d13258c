"""Baselines that every report shows; each is a function that returns a `Scorer`."""

from simulations.baselines.dp_popularity import (
    dp_popularity_metrics,
    popularity_release,
    release_deviation,
    unit_popularity,
)
from simulations.baselines.ease import EASE_GRID, choose_ease, ease_scorer, solve_ease
from simulations.baselines.implicit_als import choose_implicit_als
from simulations.baselines.item_knn import choose_item_knn
from simulations.baselines.popularity import popularity_scorer, random_scorer
from simulations.baselines.recency_ease import choose_recency_ease
from simulations.baselines.text_floor import (
    TextFloor,
    choose_text_floor,
    text_floor_metrics,
    text_floor_scorer,
)

__all__ = [
    "EASE_GRID",
    "TextFloor",
    "choose_ease",
    "choose_implicit_als",
    "choose_item_knn",
    "choose_recency_ease",
    "choose_text_floor",
    "dp_popularity_metrics",
    "ease_scorer",
    "popularity_release",
    "popularity_scorer",
    "random_scorer",
    "release_deviation",
    "solve_ease",
    "text_floor_metrics",
    "text_floor_scorer",
    "unit_popularity",
]
