"""The stacked engine against the Opacus path, site by site: the same adapters."""

from __future__ import annotations

import numpy as np
import pytest

from client.local_steps import poisson_steps
from client.site_by_site import SiteBySite
from client.training_job import TrainingJob
from common.adapters import Adapter, add_update
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.context import ContextEncoder
from common.holdout import hold_out
from common.initial_adapter import initial_adapter
from common.loaded_recommender import loaded_recommender
from common.privacy_units import Unit, make_units
from common.randomness import seeded_source
from simulations.stacked import StackedTrainer
from simulations.stacked.adapter_stack import AdapterStack
from simulations.synthetic import synthetic_dataset

DATASET = synthetic_dataset()
ITEMS = len(DATASET.catalogue)
SITE_SIZES = (5, 1, 9, 2)  # ragged; at q = 0.4 the small ones often sample nobody
SPOILT_ITEM = 5  # its prior is NaN, and so is the loss of every unit that draws it
ROUNDS = 3


def config(**sections: dict[str, object]) -> RunConfig:
    model = {"head_dim": 6, "head_items": 3, "lora_layers": 2, "lora_rank": 2, "lora_rows": 4}
    model |= {"head_hidden": 5}
    privacy = {"mode": "local", "targets_per_unit": 4, "negatives_per_unit": 7}
    privacy |= {"noise_multiplier": 1.0, "max_grad_norm": 0.3, "sample_rate": 0.4}
    federation = {"local_lr": 0.3, "lora_lr_scale": 1.0, "units_per_step": 4}
    return RunConfig(
        model=ModelConfig(**{**model, **sections.get("model", {})}),
        privacy=PrivacyConfig(**{**privacy, **sections.get("privacy", {})}),
        federation=FederationConfig(**{**federation, **sections.get("federation", {})}),
    )


def sites_of(run: RunConfig) -> list[list[Unit]]:
    splits = hold_out(
        DATASET.interactions,
        DATASET.catalogue,
        split=run.data.split,
        seed=0,
        users=DATASET.users,
    )
    encoder, unit = ContextEncoder.of(run.model), run.privacy.unit
    history = run.model.max_history
    units = iter(make_units(splits, max_history=history, unit=unit, encoder=encoder))
    return [[next(units) for _ in range(size)] for size in SITE_SIZES]


def jobs_of(run: RunConfig, adapter: Adapter, server_round: int) -> list[TrainingJob]:
    prior = np.linspace(-1, 1, ITEMS, dtype=np.float32)
    if run.is_private:
        prior[SPOILT_ITEM] = np.nan
    return [
        TrainingJob(
            site=f"site-{number}",
            config=run,
            catalogue=DATASET.catalogue,
            units=units,
            adapter=adapter,
            item_prior=prior,
            server_round=server_round,
            expected_units=len(units) * run.privacy.sample_rate,
            sampling=seeded_source(1, number, server_round, "sampling"),
            noise=seeded_source(1, number, server_round, "noise"),
        )
        for number, units in enumerate(sites_of(run))
    ]


def start_of(run: RunConfig) -> Adapter:
    """Away from a run's own start, where B and the head are zero."""
    adapter, generator = initial_adapter(run), np.random.default_rng(7)
    for name, array in adapter.items():
        adapter[name] = array + 0.05 * generator.standard_normal(array.shape, np.float32)
    return adapter


def after_rounds(run: RunConfig, *, stacked: bool) -> Adapter:
    """The global adapter after some rounds of plain averaging."""
    adapter = start_of(run)
    for server_round in range(1, ROUNDS + 1):
        jobs = jobs_of(run, adapter, server_round)
        alone = SiteBySite()
        updates = StackedTrainer().updates(jobs) if stacked else [alone.update(j) for j in jobs]
        for update in updates:
            share = {name: array / np.float32(len(updates)) for name, array in update.items()}
            adapter = add_update(adapter, share)
    return adapter


def assert_equal(got: Adapter, expected: Adapter) -> None:
    assert got.keys() == expected.keys()
    for name in expected:
        assert np.isfinite(expected[name]).all(), name
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-5, err_msg=name)


def assert_same_after_rounds(run: RunConfig) -> None:
    expected, start = after_rounds(run, stacked=False), start_of(run)
    for name, array in expected.items():
        assert np.abs(array - start[name]).max() > 1e-4, f"{name} has hardly moved"
    assert_equal(after_rounds(run, stacked=True), expected)


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("objective", ["ranking", "click", "rating"])
@pytest.mark.parametrize(
    ("adapter", "local_steps"), [("ffa", 1), ("fedit", 3), slow("ffa", 3), slow("fedit", 1)]
)
def test_private_rounds_give_the_same_adapter(
    objective: str, adapter: str, local_steps: int
) -> None:
    run = config(
        model={"objective": objective, "adapter": adapter},
        federation={"local_steps": local_steps},
    )
    assert_same_after_rounds(run)


@pytest.mark.parametrize(
    ("head", "terms", "matrix"),
    [
        ("multi_lag", "trained", "per_lag"),
        ("bilinear", "trained", "per_lag"),
        slow("bilinear", "fixed", "per_lag"),
        slow("bilinear", "trained", "symmetric"),
        slow("multi_lag", "fixed", "per_lag"),
    ],
)
def test_every_head_gives_the_same_adapter(head: str, terms: str, matrix: str) -> None:
    model = {"head": head, "score_terms": terms, "head_matrix": matrix}
    assert_same_after_rounds(config(model=model, federation={"local_steps": 2}))


@pytest.mark.parametrize(
    ("head", "context"),
    [("bilinear", "user,time"), slow("multi_lag", "user,time"), slow("bilinear", "time")],
)
def test_context_gives_the_same_adapter(head: str, context: str) -> None:
    """In it what a site sees of its own users' attributes differs from site to site."""
    model = {"head": head, "context": context, "context_dim": 4, "item_side": "head"}
    assert_same_after_rounds(config(model=model, federation={"local_steps": 2}))


@pytest.mark.parametrize(
    ("side", "head"), [("head", "bilinear"), ("lora", "multi_lag"), slow("lora", "bilinear")]
)
def test_one_trained_side_gives_the_same_adapter(side: str, head: str) -> None:
    model = {"item_side": side, "head": head}
    assert_same_after_rounds(config(model=model, federation={"local_steps": 2}))


@pytest.mark.parametrize("clip_rule", ["flat", "auto_s"])
def test_adam_and_both_clip_rules_give_the_same_adapter(clip_rule: str) -> None:
    federation = {"local_steps": 2, "local_optimizer": "adam", "local_lr": 0.01}
    assert_same_after_rounds(config(privacy={"clip_rule": clip_rule}, federation=federation))


@pytest.mark.parametrize(
    ("adapter", "local_steps"), [("ffa", 1), ("fedit", 3), slow("ffa", 3), slow("fedit", 1)]
)
def test_clipped_updates_of_units_give_the_same_adapter(adapter: str, local_steps: int) -> None:
    run = config(
        model={"adapter": adapter},
        privacy={"clipping": "update"},
        federation={"local_steps": local_steps, "local_lr": 0.05},
    )
    assert_same_after_rounds(run)


@pytest.mark.parametrize("local_steps", [1, 3])
def test_plain_rounds_give_the_same_adapter(local_steps: int) -> None:
    run = config(privacy={"mode": "none"}, federation={"local_steps": local_steps})
    assert_same_after_rounds(run)


def test_units_of_the_tests_are_spoilt_and_sites_sample_nobody() -> None:
    run = config()
    model = loaded_recommender(
        run, DATASET.catalogue, initial_adapter(run), np.zeros(0, np.float32)
    )
    spoilt, empty = 0, 0
    for job in jobs_of(run, initial_adapter(run), 1):
        sampled = next(poisson_steps(model, job.units, run, job.sampling))
        empty += not sampled
        spoilt += sum(SPOILT_ITEM in contribution.candidates for contribution in sampled)
    assert spoilt > 0
    assert empty > 0


@pytest.mark.parametrize("clipping", ["gradient", "update"])
def test_exact_sums_are_the_same(clipping: str) -> None:
    run = config(privacy={"mode": "central", "clipping": clipping})
    adapter = initial_adapter(run)
    expected = [SiteBySite().exact_sum(job) for job in jobs_of(run, adapter, 1)]
    got = StackedTrainer().exact_sums(jobs_of(run, adapter, 1))
    assert any(np.any(total) for total in expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_sites_of_a_round_are_trained_in_one_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests would hold as well for a trainer that took the sites one by one."""
    run, copies = config(federation={"local_steps": 2}), []
    make = AdapterStack.__init__
    monkeypatch.setattr(
        AdapterStack, "__init__", lambda self, start, n: (copies.append(n), make(self, start, n))[1]
    )
    StackedTrainer().updates(jobs_of(run, start_of(run), 1))
    assert copies == [len(SITE_SIZES)]
