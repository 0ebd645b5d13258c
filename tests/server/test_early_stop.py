"""The rule that ends a run on its validation."""

from __future__ import annotations

import pytest

from common.config import EvaluationConfig, PrivacyConfig, RunConfig
from server.early_stop import has_stopped, stop_reason, validations


def _config(patience: int) -> RunConfig:
    return RunConfig(evaluation=EvaluationConfig(patience=patience, metrics="private"))


@pytest.mark.parametrize(
    ("values", "patience", "stops"),
    [
        ([0.1, 0.2, 0.3], 1, False),
        ([0.1, 0.3, 0.2], 1, True),
        ([0.1, 0.3, 0.2], 2, False),
        ([0.3, 0.2, 0.1], 2, True),
        ([0.3, 0.2, 0.31], 2, False),
        ([0.3, 0.3], 1, True),
        ([0.3], 1, False),
        ([0.3, 0.2, 0.1], 0, False),
    ],
)
def test_the_rule(values: list[float], patience: int, stops: bool) -> None:
    assert bool(stop_reason(values, _config(patience))) is stops


def test_what_is_read_of_the_records() -> None:
    lines = [
        {"server_round": 0, "validation": None},
        {"server_round": 1, "validation": {"ndcg_10": 0.25}},
        {"server_round": 2, "validation": None, "stopped": "no better"},
    ]
    assert validations(lines) == [0.25]
    assert has_stopped(lines)
    assert not has_stopped(lines[:2])
    assert not has_stopped([])


def test_a_private_run_is_not_ended_by_exact_figures() -> None:
    with pytest.raises(ValueError, match=r"patience needs evaluation\.metrics=private"):
        RunConfig(evaluation=EvaluationConfig(patience=1, metrics="exact"))
    with pytest.raises(ValueError, match=r"patience needs evaluation\.metrics=exact"):
        RunConfig(
            privacy=PrivacyConfig(mode="none"),
            evaluation=EvaluationConfig(patience=1, metrics="none"),
        )
    with pytest.raises(ValueError, match=r"evaluation\.every=0"):
        RunConfig(evaluation=EvaluationConfig(patience=1, metrics="private", every=0))
