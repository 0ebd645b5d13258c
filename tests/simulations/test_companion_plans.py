"""What each companion changes in a run, and when a run has no use for it."""

from __future__ import annotations

from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.holdout import hold_out
from simulations.companion_plans import MOST_UNITS_PER_STEP, CompanionPlan, companion_plans
from simulations.companions import companion_config
from simulations.synthetic import synthetic_dataset
from simulations.time_cut import find_cut

DATA = synthetic_dataset(users=60)
SPLITS = hold_out(DATA.interactions, DATA.catalogue, split="leave_one_out", seed=0)


def plans(config: RunConfig) -> dict[str, CompanionPlan]:
    return {plan.name: plan for plan in companion_plans(config, DATA, SPLITS)}


def changed(config: RunConfig, name: str) -> RunConfig:
    return companion_config(config, plans(config)[name].changes)


def test_the_frozen_companion_differs_in_lora_alone() -> None:
    config = RunConfig(model=ModelConfig(history_gradient=True))
    found = changed(config, "frozen")
    assert found.model == config.model.model_copy(
        update={"item_side": "head", "history_gradient": False}
    )
    assert (found.privacy, found.federation, found.data) == (
        config.privacy,
        config.federation,
        config.data,
    )
    assert found.evaluation.companions == ""


def test_metrics_that_the_budget_counts_stay() -> None:
    config = RunConfig(evaluation=EvaluationConfig(metrics="private", every=2))
    assert changed(config, "frozen").evaluation.metrics == "private"
    assert changed(RunConfig(), "frozen").evaluation.metrics == "none"


def test_the_central_companion_takes_what_all_sites_take_together() -> None:
    federation = FederationConfig(
        local_steps=12, units_per_step=3, server_optimizer="fedavgm", local_optimizer="adam"
    )
    config = RunConfig(privacy=PrivacyConfig(mode="none"), federation=federation)
    found = changed(config, "central")
    assert (found.data.sites, found.federation.min_sites) == (1, 1)
    assert (found.federation.local_steps, found.federation.units_per_step) == (120, 3)
    assert found.federation.server_optimizer == "fedavg"
    assert found.federation.local_lr == config.federation.local_lr
    sampled = RunConfig(privacy=PrivacyConfig(sample_rate=0.5, clipping="update"))
    found = changed(sampled, "central")
    assert found.privacy.mode == "none"
    steps = (found.federation.local_steps, found.federation.units_per_step)
    assert steps == (1, 30)  # half of 60 users
    assert "central" in plans(config)["central"].row


def test_a_central_step_has_a_largest_size_and_says_so() -> None:
    many = RunConfig(privacy=PrivacyConfig(unit="example", mode="local"), data=DataConfig(sites=60))
    total = sum(len(split.train) for split in SPLITS)
    plan = plans(many)["central"]
    assert plan.changes["federation.units_per_step"] == min(total, MOST_UNITS_PER_STEP)
    assert ("fewer epochs" in plan.note) == (total > MOST_UNITS_PER_STEP)


def test_a_run_that_is_its_own_companion_needs_none() -> None:
    first, then = find_cut(DATA.interactions.timestamp)
    config = RunConfig(
        data=DataConfig(sites=1, split="time_cut", validation_from=first, test_from=then),
        model=ModelConfig(item_side="head"),
        privacy=PrivacyConfig(mode="none"),
        federation=FederationConfig(min_sites=1),
    )
    assert all(plan.not_needed for plan in companion_plans(config, DATA, SPLITS))
    assert not any(plan.not_needed for plan in companion_plans(RunConfig(), DATA, SPLITS))


def test_the_time_cut_has_its_times() -> None:
    config = RunConfig(evaluation=EvaluationConfig(companions="time_cut"))
    cut = changed(config, "time_cut").data.cut
    assert cut == find_cut(DATA.interactions.timestamp)
    times = DATA.interactions.timestamp
    assert abs((times < cut[0]).mean() - 0.8) < 0.01
    assert abs((times >= cut[1]).mean() - 0.1) < 0.01
