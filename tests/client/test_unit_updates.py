"""DP-FedAvg per unit: the clipped sum, its bound, what it leaves behind, and its noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from client.local_steps import local_optimizer
from client.local_training import train_private
from client.private_step import PrivateStep
from client.unit_updates import add_noised_mean, clipped_update_sum, sum_of_clipped_updates
from common.accounting import epsilon
from common.adapters import trainable_parameters
from common.build_recommender import build_recommender
from common.config import FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import PrivacyError
from common.holdout import hold_out
from common.noise_plan import noise_multiplier, popularity_event, round_event
from common.privacy_units import Unit, collate, draw_contribution, make_units
from common.randomness import RandomSource, secure_source, seeded_source
from common.recommender import Recommender
from simulations.synthetic import synthetic_dataset

DATASET = synthetic_dataset()
FREE = 1e9  # clips nothing
Tensors = dict[str, torch.Tensor]


def config(
    steps: int = 3, bound: float = FREE, optimizer: str = "sgd", **privacy: object
) -> RunConfig:
    settings = {"targets_per_unit": 4, "negatives_per_unit": 7, "noise_multiplier": 1.0} | privacy
    return RunConfig(
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
        privacy=PrivacyConfig(mode="local", clipping="update", max_grad_norm=bound, **settings),
        federation=FederationConfig(
            local_steps=steps,
            local_lr=0.05,
            lora_lr_scale=0.1,
            local_optimizer=optimizer,
            rounds=5,
        ),
    )


def recommender_of(run: RunConfig) -> Recommender:
    """The recommender in training, its adapter moved away from the start, where B is zero."""
    recommender = build_recommender(run, DATASET.catalogue)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trainable_parameters(recommender).values():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    recommender.keep_table_for(repr(run))
    recommender.train()
    return recommender


def units_of(run: RunConfig, count: int) -> list[Unit]:
    splits = hold_out(DATASET.interactions, DATASET.catalogue, split="leave_one_out", seed=0)
    return make_units(splits, max_history=run.model.max_history)[:count]


def sums(recommender: Recommender, units: list[Unit], run: RunConfig, seed: int = 1) -> Tensors:
    source = seeded_source(seed, "sampling")
    return clipped_update_sum(recommender, units, run, server_round=2, sampling=source)


def norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))


def copies(recommender: Recommender) -> Tensors:
    return {n: p.detach().clone() for n, p in trainable_parameters(recommender).items()}


def by_hand(recommender: Recommender, unit: Unit, run: RunConfig, source: RandomSource) -> Tensors:
    """One unit's update by autograd and the textbook's SGD; the adapter is put back."""
    parameters, start = trainable_parameters(recommender), copies(recommender)
    for _ in range(run.federation.local_steps):
        contribution = draw_contribution(
            unit, catalogue_size=80, targets=4, negatives=7, lora_rows=4, source=source
        )
        loss = recommender.unit_losses(collate([contribution], max_history=150)).sum()
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        with torch.no_grad():
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                rate = run.federation.local_lr * (
                    run.federation.lora_lr_scale if "lora." in name else 1.0
                )
                parameter.sub_(rate * gradient)
    update = {n: p.detach().double() - start[n].double() for n, p in parameters.items()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(start[name])
    return update


@pytest.mark.parametrize("bound", [FREE, 0.01])
def test_the_sum_is_that_of_updates_made_and_clipped_by_hand(bound: float) -> None:
    run = config(bound=bound)
    recommender, units = recommender_of(run), units_of(run, 4)
    source = seeded_source(1, "sampling")
    expected: Tensors = {}
    for unit in units:
        update = by_hand(recommender, unit, run, source)
        factor = min(1.0, bound / norm(update))
        for name, moved in update.items():
            expected[name] = expected.get(name, torch.zeros(())) + factor * moved
    found = sums(recommender, units, run)
    assert list(found) == list(trainable_parameters(recommender))
    gap = norm({name: found[name] - expected[name] for name in expected})
    assert gap <= 2e-6 * norm(expected)
    assert all(tensor.dtype == torch.float64 for tensor in found.values())
    for part in ("lora.", "head."):
        assert any(found[name].abs().sum() > 0 for name in found if name.startswith(part))


def test_one_unclipped_sgd_step_is_the_sum_of_gradients_times_the_rate() -> None:
    run = config(steps=1)
    recommender, units = recommender_of(run), units_of(run, 5)
    updates = sums(recommender, units, run)
    source, seen = seeded_source(1, "sampling"), []
    with PrivateStep(
        recommender,
        local_optimizer(recommender, run, 2),
        noise_multiplier=0.0,
        max_grad_norm=FREE,
        expected_units=1e12,
        source=seeded_source(3),
        observe=lambda stage, tensors: seen.append(tensors) if stage == "clipped_sum" else None,
    ) as step:
        contributions = [
            draw_contribution(
                unit, catalogue_size=80, targets=4, negatives=7, lora_rows=4, source=source
            )
            for unit in units
        ]
        step.step(
            contributions, lambda batch: recommender.unit_losses(collate(batch, max_history=150))
        )
    (gradients,) = seen
    named = dict(recommender.named_parameters())
    for name, parameter in trainable_parameters(recommender).items():
        (full,) = [n for n, p in named.items() if p is parameter]
        rate = run.federation.local_lr * (run.federation.lora_lr_scale if "lora." in name else 1.0)
        torch.testing.assert_close(updates[name], -rate * gradients[full], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_nothing_passes_from_one_unit_to_the_next(optimizer: str) -> None:
    run = config(steps=3, optimizer=optimizer)
    recommender, units = recommender_of(run), units_of(run, 2)
    together = sums(recommender, units, run)
    source = seeded_source(1, "sampling")
    alone = [
        clipped_update_sum(recommender, [unit], run, server_round=2, sampling=source)
        for unit in units
    ]
    for name in together:
        torch.testing.assert_close(
            together[name], alone[0][name] + alone[1][name], atol=1e-12, rtol=0
        )


def test_the_adapter_is_the_same_bits_afterwards_also_after_an_exception() -> None:
    run = config()
    recommender, units = recommender_of(run), units_of(run, 3)
    before = copies(recommender)
    sums(recommender, units, run)
    broken = Unit("broken", np.array([10**6]), np.ones(1, np.float32), np.array([10**6]))
    with pytest.raises(IndexError):
        sums(recommender, [*units, broken], run)
    for name, parameter in trainable_parameters(recommender).items():
        assert torch.equal(parameter.view(torch.int32), before[name].view(torch.int32)), name
        assert parameter.grad is None


def test_an_exception_in_the_middle_of_local_steps_leaves_the_parameters_alone() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0, -0.0, 1e-45]))
    before = parameter.detach().clone().view(torch.int32)

    def train(unit: int) -> None:
        with torch.no_grad():
            parameter.add_(1.0)
        raise OSError("in the middle")

    with pytest.raises(OSError, match="in the middle"):
        sum_of_clipped_updates({"p": parameter}, [1], train, 1.0)
    assert torch.equal(parameter.detach().view(torch.int32), before)


def test_no_units_give_zeros_of_the_right_shapes() -> None:
    run = config()
    recommender = recommender_of(run)
    found = sums(recommender, [], run)
    for name, parameter in trainable_parameters(recommender).items():
        assert torch.equal(found[name], torch.zeros_like(parameter, dtype=torch.float64))


NUMBERS = st.floats(width=32) | st.floats(-2.0, 2.0, width=32)
VECTORS = st.lists(NUMBERS, min_size=5, max_size=5)


@settings(max_examples=300)
@given(
    bound=st.floats(1e-6, 1e6),
    units=st.lists(st.lists(VECTORS, min_size=1, max_size=4), min_size=1, max_size=4),
    start=st.lists(st.floats(-1e3, 1e3, width=32), min_size=5, max_size=5),
)
def test_no_unit_moves_the_sum_by_more_than_the_bound(
    bound: float, units: list[list[list[float]]], start: list[float]
) -> None:
    # The most hostile unit there is: each of its K steps writes what it likes.
    left, right = (
        torch.nn.Parameter(torch.tensor(part, dtype=torch.float32))
        for part in (start[:2], start[2:])
    )

    def train(steps: list[list[float]]) -> None:
        with torch.no_grad():
            for step in steps:
                left.copy_(torch.tensor(step[:2]))
                right.add_(torch.tensor(step[2:]))

    def total(some: list[list[list[float]]]) -> torch.Tensor:
        found = sum_of_clipped_updates({"left": left, "right": right}, some, train, bound)
        return torch.cat([found["left"], found["right"]])

    for unit in units:
        assert float(total([unit]).norm()) <= bound
    move = float((total(units) - total(units[1:])).norm())
    assert move <= bound * (1 + 1e-12)  # the sums are rounded to float64


def test_the_bound_is_reached_and_a_small_update_is_left_as_it_is() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4))

    def train(size: float) -> None:
        with torch.no_grad():
            parameter.fill_(size)

    for size, expected in ((1e30, 0.5 * (1 - 1e-6)), (0.25, 0.5), (0.125, 0.25), (0.0, 0.0)):
        found = sum_of_clipped_updates({"p": parameter}, [size], train, 0.5)["p"]
        assert float(found.norm()) == pytest.approx(expected, rel=1e-12), size


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_unit_with_an_entry_that_is_no_number_counts_as_zero(poison: float) -> None:
    run = config(bound=0.01, steps=2)
    run = run.model_copy(update={"model": run.model.model_copy(update={"objective": "rating"})})
    recommender, units = recommender_of(run), units_of(run, 2)
    items = np.array([3, 4], dtype=np.int64)
    bad = Unit("bad", items, np.full(2, poison, np.float32), items)
    with_bad, without = sums(recommender, [*units, bad], run), sums(recommender, units, run)
    for name in without:
        assert torch.equal(with_bad[name], without[name])


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_a_bound_that_bounds_nothing_is_refused(bound: float) -> None:
    with pytest.raises(PrivacyError, match="max_grad_norm"):
        sum_of_clipped_updates({}, [], lambda unit: None, bound)


@pytest.mark.parametrize("bad", [{"deviation": 0.0}, {"expected_units": math.nan}])
def test_noise_and_divisor_must_be_positive(bad: dict[str, float]) -> None:
    numbers = {"deviation": 1.0, "expected_units": 1.0} | bad
    with pytest.raises(PrivacyError, match=next(iter(bad))):
        add_noised_mean(recommender_of(config()), {}, noise=seeded_source(1), **numbers)


def test_a_round_adds_the_noised_sum_over_the_public_constant() -> None:
    run = config(bound=0.01)
    recommender, units = recommender_of(run), units_of(run, 3)
    before = copies(recommender)
    source = seeded_source(1, "sampling")
    source.uniform(3)  # the Poisson sample comes first
    total = clipped_update_sum(recommender, units, run, server_round=2, sampling=source)
    train_private(
        recommender,
        units,
        run,
        server_round=2,
        expected_units=7.0,
        sampling=seeded_source(1, "sampling"),
        noise=seeded_source(4, "noise"),
    )
    noise = seeded_source(4, "noise")
    for name, parameter in trainable_parameters(recommender).items():
        drawn = torch.from_numpy(noise.normal(parameter.numel())).view(parameter.shape)
        expected = before[name].double() + (total[name] + 0.01 * drawn) / 7.0
        torch.testing.assert_close(parameter.double(), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.statistical
@pytest.mark.parametrize(("claimed", "accepted"), [(1.0, True), (0.9, False), (1 / 0.9, False)])
def test_noise_of_a_round_has_its_declared_deviation(claimed: float, accepted: bool) -> None:
    # χ² over 20,000 numbers and more at 1e-6: a right σ fails once in a million runs; noise
    # that is off by a tenth passes with a probability below 1e-10.
    run = config(bound=0.01, noise_multiplier=1.5)
    recommender = recommender_of(run)
    parameters, draws, scale = trainable_parameters(recommender), [], 1.5 * 0.01 * claimed
    while sum(len(each) for each in draws) < 20_000:
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.zero_()
        source = secure_source()
        train_private(
            recommender,
            (),
            run,
            server_round=1,
            expected_units=2.0,
            sampling=source,
            noise=source,
        )
        draws += [p.detach().double().flatten() * 2.0 for p in parameters.values()]
    pooled = torch.cat(draws).numpy() / scale
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], len(pooled))
    assert bool(low <= float(np.square(pooled).sum()) <= high) is accepted


def test_a_round_costs_one_event_however_many_local_steps_it_makes() -> None:
    run = config(steps=10, noise_multiplier="auto", target_epsilon=3.0, sample_rate=0.5)
    event = round_event(run)
    assert event is not None
    assert event.steps == 1
    popularity = popularity_event(run)
    assert popularity is not None
    assert 0.98 * 3 <= epsilon([popularity, *[event] * 5], 1e-4) <= 3
    one_step = run.model_copy(update={"federation": FederationConfig(rounds=5, local_steps=1)})
    assert noise_multiplier(one_step) == noise_multiplier(run)
    gradients = RunConfig(
        privacy=run.privacy.model_copy(update={"clipping": "gradient"}), federation=run.federation
    )
    steps = round_event(gradients)
    assert steps is not None
    assert steps.steps == 10
    assert noise_multiplier(gradients) > 1.5 * noise_multiplier(run)
