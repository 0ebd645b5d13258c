"""What a run with noise on the sum agrees on."""

from __future__ import annotations

from typing import Any

import pytest

from common.config import DataConfig, FederationConfig, PrivacyConfig, RunConfig
from common.errors import MessageError, PrivacyError
from common.noise_plan import noise_multiplier
from common.sum_plan import dropouts_among, popularity_plan, round_spec, update_plan


def config(sites: int = 10, **privacy: Any) -> RunConfig:
    fields = {"mode": "distributed", "max_dropouts": 2, "max_colluders": 1, "max_grad_norm": 0.1}
    return RunConfig(
        data=DataConfig(sites=sites),
        privacy=PrivacyConfig(**(fields | privacy)),
        federation=FederationConfig(rounds=4),
    )


def names(count: int) -> list[str]:
    return [f"site-{at:04d}" for at in range(count)]


def test_the_plan_of_updates_is_the_configured_mechanism() -> None:
    plan = update_plan(config(), 500)
    assert (plan.sites, plan.min_honest, plan.coordinates, plan.rounds) == (10, 7, 500, 4)
    assert (plan.max_grad_norm, plan.site_units) == (0.1, 1000)
    assert plan.noise_multiplier == noise_multiplier(config())
    assert plan.event(1.0).noise_multiplier >= noise_multiplier(config())


def test_the_plan_of_popularity_is_one_sum_of_units_of_norm_one() -> None:
    plan = popularity_plan(config(popularity_noise_multiplier=2.5), 80)
    assert (plan.coordinates, plan.rounds, plan.max_grad_norm) == (80, 1, 1.0)
    assert plan.noise_multiplier == 2.5


def test_in_central_one_party_adds_all_the_noise() -> None:
    central, distributed = (popularity_plan(config(mode=m), 80) for m in ("central", "distributed"))
    assert (central.min_honest, distributed.min_honest) == (1, 7)
    assert central.share_std == pytest.approx(distributed.share_std * 7**0.5, rel=1e-5)


@pytest.mark.parametrize(("left", "dropouts"), [(10, 2), (9, 1), (8, 0)])
def test_fewer_sites_may_vanish_when_some_have_left(left: int, dropouts: int) -> None:
    assert dropouts_among(config(), left) == dropouts
    plan = update_plan(config(), 20)
    spec = round_spec(config(), "run", 1, names(left), plan)
    plan.check_round(spec)
    # Whoever vanishes, the noise of `min_honest` honest sites is in the sum.
    assert spec.min_survivors - spec.max_colluders >= config().min_honest
    assert spec.max_dropouts == dropouts


def test_too_few_sites_cannot_carry_the_noise() -> None:
    with pytest.raises(PrivacyError, match="7 sites are left.*min_honest=7") as fault:
        dropouts_among(config(), 7)
    assert "connect more sites" in str(fault.value)
    assert dropouts_among(config(min_honest=4), 7) == 2


def test_a_round_binds_all_that_must_be_equal() -> None:
    plan = update_plan(config(), 20)
    spec = round_spec(config(), "run", 1, names(10), plan)
    assert spec.config_hash.hex() == config().sha256()
    others = [
        round_spec(config(), "other", 1, names(10), plan),
        round_spec(config(), "run", 2, names(10), plan),
        round_spec(config(), "run", 1, names(9), plan),
        round_spec(config(target_epsilon=7.0), "run", 1, names(10), plan),
        round_spec(config(), "run", 1, names(10), update_plan(config(), 21)),
    ]
    assert len({each.context for each in [spec, *others]}) == 6


def test_unsorted_or_twice_named_participants_fit_no_round() -> None:
    plan = update_plan(config(), 20)
    for wrong in (names(10)[::-1], ["a"] * 10):
        with pytest.raises(MessageError, match="sorted, distinct"):
            round_spec(config(), "run", 1, wrong, plan)


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ({"data": {"sites": 2}}, "needs at least 3 sites"),
        ({"data": {"sites": 4}, "privacy": {"max_dropouts": 2}}, "lower them, add sites"),
        ({"privacy": {"max_dropouts": 5}}, "below data.sites=10"),
        ({"privacy": {"min_honest": 9}}, "set privacy.min_honest=auto"),
        ({"federation": {"local_steps": 2}}, "set federation.local_steps=1"),
        ({"federation": {"local_optimizer": "adam"}}, "set federation.local_optimizer=sgd"),
        ({"federation": {"weighting": "declared"}}, "set federation.weighting=equal"),
    ],
)
def test_what_the_mode_cannot_do_is_a_fault_of_the_configuration(
    sections: dict[str, Any], match: str
) -> None:
    values = {
        "data": {"sites": 10} | sections.get("data", {}),
        "privacy": {"mode": "distributed"} | sections.get("privacy", {}),
        "federation": sections.get("federation", {}),
    }
    with pytest.raises(ValueError, match=match):
        RunConfig.model_validate(values)
    if "federation" in sections:
        values["privacy"] = {"mode": "central"}
        with pytest.raises(ValueError, match=match):
            RunConfig.model_validate(values)
    values["privacy"] = {"mode": "local"}
    RunConfig.model_validate(values)


def test_central_does_without_the_thresholds_of_secure_sums() -> None:
    values = {"data": {"sites": 2}, "privacy": {"mode": "central", "max_dropouts": 5}}
    assert RunConfig.model_validate(values).min_honest == 1
