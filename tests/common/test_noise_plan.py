"""σ is calibrated for the whole run: all rounds and the popularity release together."""

from __future__ import annotations

import pytest

from common.accounting import epsilon
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import CalibrationError
from common.noise_plan import (
    cooccurrence_deviation,
    cooccurrence_event,
    noise_multiplier,
    popularity_deviation,
    popularity_event,
    round_event,
)


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("sample_rate", [1.0, 0.25])
def test_the_whole_run_fits_the_target(prior: bool, sample_rate: float) -> None:
    run = RunConfig(
        model=ModelConfig(popularity_prior=prior),
        privacy=PrivacyConfig(mode="local", target_epsilon=3.0, sample_rate=sample_rate),
        federation=FederationConfig(rounds=7, local_steps=2),
    )
    event = round_event(run)
    assert event is not None
    assert event.steps == 2
    before = [e for e in [popularity_event(run)] if e is not None]
    total = epsilon([*before, *[event] * 7], 1e-4)
    assert 0.98 * 3.0 <= total <= 3.0


def test_a_run_with_co_occurrence_fits_the_target_and_trains_with_more_noise() -> None:
    privacy = PrivacyConfig(mode="distributed", cooccurrence_noise_multiplier=1.5)
    without, with_pairs = (
        RunConfig(model=ModelConfig(item_to_item=on), privacy=privacy) for on in (False, True)
    )
    event, pairs = round_event(with_pairs), cooccurrence_event(with_pairs)
    popularity = popularity_event(with_pairs)
    assert cooccurrence_event(without) is None
    assert pairs is not None
    assert pairs.noise_multiplier == 1.5
    assert event is not None
    assert popularity is not None
    total = epsilon([popularity, pairs, *[event] * with_pairs.federation.rounds], 1e-4)
    assert 0.98 * 8.0 <= total <= 8.0
    assert noise_multiplier(with_pairs) > noise_multiplier(without)


def test_co_occurrence_noise_adds_up_over_sites() -> None:
    model = ModelConfig(item_to_item=True)
    fields = {"cooccurrence_noise_multiplier": 2.0}
    local = RunConfig(model=model, privacy=PrivacyConfig(mode="local", **fields))
    assert cooccurrence_deviation(local, 9) == pytest.approx(6.0)
    shared = RunConfig(model=model, privacy=PrivacyConfig(mode="distributed", **fields))
    least = shared.min_honest
    assert cooccurrence_deviation(shared, least) == pytest.approx(2.0)
    assert (
        cooccurrence_deviation(RunConfig(model=model, privacy=PrivacyConfig(mode="none")), 9) == 0
    )


def test_a_given_noise_multiplier_is_kept() -> None:
    assert noise_multiplier(RunConfig(privacy=PrivacyConfig(noise_multiplier=1.5))) == 1.5


def test_mode_none_has_no_events() -> None:
    run = RunConfig(privacy=PrivacyConfig(mode="none"))
    assert round_event(run) is None
    assert popularity_event(run) is None
    assert popularity_deviation(run, 10) == 0.0


def test_a_popularity_release_over_budget_is_refused() -> None:
    run = RunConfig(privacy=PrivacyConfig(target_epsilon=1.0, popularity_noise_multiplier=0.5))
    with pytest.raises(CalibrationError):
        noise_multiplier(run)


def test_popularity_noise_adds_up_over_sites() -> None:
    run = RunConfig(privacy=PrivacyConfig(mode="local", popularity_noise_multiplier=2.0))
    assert popularity_deviation(run, 9) == pytest.approx(6.0)
