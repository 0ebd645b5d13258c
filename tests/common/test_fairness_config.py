"""What mitigation needs: public figures to weigh by, tables to be shown in, a popularity."""

from __future__ import annotations

from typing import Any

import pytest

from common.config import RunConfig

FAIR = {"weighting": "fair", "rounds": 4}
NONE = {"mode": "none", "target_epsilon": float("inf")}


def config(**sections: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(sections)


def test_fair_weights_where_the_figure_is_public() -> None:
    assert config(privacy=NONE, federation=FAIR, evaluation={"metrics": "exact"})
    assert config(privacy={"mode": "local"}, federation=FAIR, evaluation={"metrics": "private"})


@pytest.mark.parametrize(
    ("sections", "remedy"),
    [
        ({"privacy": {"mode": "distributed"}}, "set federation.weighting=equal"),
        ({"privacy": {"mode": "central"}}, "set federation.weighting=equal"),
        ({"privacy": {"mode": "local"}}, "set evaluation.metrics=private"),
        ({"privacy": NONE, "evaluation": {"metrics": "none"}}, "set evaluation.metrics=exact"),
        ({"privacy": NONE, "evaluation": {"every": 0}}, "set evaluation.every=1"),
        ({"privacy": NONE, "evaluation": {"every": 4}}, "set evaluation.every=1"),
    ],
)
def test_fair_weights_without_a_public_figure_are_a_fault(
    sections: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(ValueError, match=remedy):
        config(**sections, federation=FAIR)


@pytest.mark.parametrize("key", ["personal_steps", "exposure_penalty"])
def test_an_option_that_no_table_would_show_is_a_fault(key: str) -> None:
    with pytest.raises(ValueError, match=r"set evaluation\.companions=last_fifth"):
        config(evaluation={key: 1, "companions": "frozen"})
    with pytest.raises(ValueError, match=r"evaluation\.lab=true"):
        config(evaluation={key: 1, "companions": "last_fifth", "lab": False})
    assert config(evaluation={key: 1, "companions": "frozen, last_fifth"}).shows_fairness
    assert config(evaluation={key: 1}, data={"split": "last_fifth"}).shows_fairness


def test_re_ranking_needs_a_released_popularity() -> None:
    with pytest.raises(ValueError, match=r"set model\.popularity_prior=true"):
        config(
            model={"popularity_prior": False},
            evaluation={"exposure_penalty": 1, "companions": "last_fifth"},
        )


def test_no_fairness_tables_unless_asked_for() -> None:
    assert not RunConfig().shows_fairness
    assert "last_fifth" not in RunConfig().companions
