"""Private metrics are counted, and the run's σ leaves room for every one of them."""

from __future__ import annotations

import pytest

from common.accounting import epsilon
from common.config import DataConfig, EvaluationConfig, FederationConfig, PrivacyConfig, RunConfig
from common.errors import CalibrationError
from common.metrics_plan import all_metrics_event, metrics_event, stages_due
from common.noise_plan import beside_training, noise_multiplier, popularity_event, round_event
from common.privacy_events import GaussianEvent


def config(metrics: str = "private", every: int = 2, **privacy: object) -> RunConfig:
    return RunConfig(
        privacy=PrivacyConfig(**{"target_epsilon": 8.0, **privacy}),
        federation=FederationConfig(rounds=5),
        evaluation=EvaluationConfig(every=every, metrics=metrics, metrics_noise_multiplier=5.0),
    )


@pytest.mark.parametrize(("every", "releases"), [(0, 2), (1, 6), (2, 4), (3, 3), (9, 2)])
def test_every_release_of_the_run_is_counted(every: int, releases: int) -> None:
    run = config(every=every)
    asked = [stage for r in range(1, 6) for stage in stages_due(r, run)]
    assert len(asked) == releases
    assert asked.count("test") == 1
    assert metrics_event(run) == GaussianEvent(5.0)
    assert all_metrics_event(run) == GaussianEvent(5.0, count=releases)


@pytest.mark.parametrize("metrics", ["exact", "none"])
def test_what_is_not_private_costs_nothing_and_changes_no_noise(metrics: str) -> None:
    run = config(metrics)
    assert metrics_event(run) is None
    assert all_metrics_event(run) is None
    assert beside_training(run) == (popularity_event(run),)
    assert noise_multiplier(run) == noise_multiplier(config("exact"))


def test_nobody_is_asked_when_there_are_no_metrics() -> None:
    assert {stages_due(r, config("none")) for r in range(1, 6)} == {()}


@pytest.mark.parametrize("mode", ["local", "distributed", "central"])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_the_whole_run_with_its_metrics_fits_the_target(mode: str, rate: float) -> None:
    run = config(mode=mode, sample_rate=rate)
    update = round_event(run)
    assert update is not None
    charged = [*beside_training(run), *[update] * 5]
    assert 0.98 * 8 <= epsilon(charged, 1e-4) <= 8
    assert noise_multiplier(run) > noise_multiplier(config("exact", mode=mode, sample_rate=rate))


def test_metrics_over_budget_are_refused() -> None:
    run = config(target_epsilon=1.0, popularity_noise_multiplier=50.0)
    with pytest.raises(CalibrationError, match="already cost"):
        noise_multiplier(run)


def test_sigma_is_calibrated_for_more_sites_than_the_default() -> None:
    run = RunConfig(
        data=DataConfig(sites=20),
        privacy=PrivacyConfig(mode="distributed", max_dropouts=4, max_colluders=4),
        federation=FederationConfig(min_sites=12),
    )
    assert noise_multiplier(run) == noise_multiplier(RunConfig())


def test_private_metrics_need_a_private_mode() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.metrics=private needs a private mode"):
        RunConfig(
            privacy=PrivacyConfig(mode="none"), evaluation=EvaluationConfig(metrics="private")
        )
