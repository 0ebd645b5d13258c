"""Context in the private step: a unit's gradient is that of the unit alone, target by target."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.evaluation import metrics_by_user
from client.grad_samplers import UnitGradients
from client.personalisation import user_side
from client.start_up import prove_private_step
from common.config import RunConfig
from common.context import NO_CONTEXT
from common.errors import DataError
from common.holdout import hold_out
from common.initial_adapter import initial_adapter
from common.privacy_units import Contribution, collate
from common.recommender import Recommender
from common.requests import requests_of
from tests.training_case import (
    DATASET,
    moved_recommender,
    small_config,
    some_contributions,
    some_units,
)

BOTH = {"context": "user,time", "context_dim": 6, "item_side": "head"}
HEADS: dict[str, dict[str, object]] = {
    "symmetric": {**BOTH, "head_items": 5, "head_matrix": "symmetric"},
    "per_lag": {**BOTH, "head_matrix": "per_lag"},
    "multi_lag": {**BOTH, "head": "multi_lag", "head_hidden": 5, "score_terms": "trained"},
}
SPLITS = hold_out(
    DATASET.interactions, DATASET.catalogue, split="leave_one_out", seed=0, users=DATASET.users
)


def losses(recommender: Recommender, batch: Sequence[Contribution]) -> torch.Tensor:
    return recommender.unit_losses(collate(batch, max_history=150))


@pytest.fixture(scope="module", params=HEADS.values(), ids=HEADS)
def run(request: pytest.FixtureRequest) -> RunConfig:
    return small_config(request.param)


@pytest.fixture(scope="module")
def recommender(run: RunConfig) -> Recommender:
    return moved_recommender(run)


@settings(max_examples=6, deadline=None)
@given(chosen=st.lists(st.integers(0, 19), min_size=1, max_size=5, unique=True))
def test_a_units_gradient_is_that_of_the_unit_alone(
    run: RunConfig, recommender: Recommender, chosen: list[int]
) -> None:
    units = some_units(run, 20)
    batch = some_contributions(recommender, [units[place] for place in chosen], run)
    times = collate(batch, max_history=150).context
    assert times is not None
    assert float(times.std(1).max()) > 0 or times.shape[1] == 1  # it differs target by target
    hooked = UnitGradients(recommender)
    measured = hooked.backward(batch, lambda some: losses(recommender, some))
    hooked.close()
    named = {n: p for n, p in recommender.named_parameters() if p.requires_grad}
    for place, contribution in enumerate(batch):
        alone = torch.autograd.grad(losses(recommender, [contribution]).sum(), list(named.values()))
        for (name, _), expected in zip(named.items(), alone, strict=True):
            torch.testing.assert_close(
                measured[name][place], expected, atol=1e-5, rtol=1e-4, msg=name
            )
    assert float(measured["head.context.weight"].abs().max()) > 1e-4


def test_a_unit_does_not_feel_the_context_of_its_neighbours(
    run: RunConfig, recommender: Recommender
) -> None:
    batch = collate(some_contributions(recommender, some_units(run, 4), run), max_history=150)
    assert batch.context is not None
    other = replace(batch, context=batch.context.clone())
    other.context[1:] = 3.0
    before, after = (recommender.unit_losses(each).detach() for each in (batch, other))
    torch.testing.assert_close(after[0], before[0])
    assert float((after[1:] - before[1:]).abs().min()) > 1e-5


def test_it_starts_at_zero_and_adds_one_tensor(run: RunConfig) -> None:
    plain = small_config({**dict(run.model), "context": ""})
    start, without = initial_adapter(run), initial_adapter(plain)
    assert start.keys() - without.keys() == {"head.context.weight"}
    assert start["head.context.weight"].shape[1] == 11
    assert not start["head.context.weight"].any()
    for name, array in without.items():
        np.testing.assert_array_equal(start[name], array)


def test_with_zeros_the_scores_are_those_without_context(recommender: Recommender) -> None:
    model = copy.deepcopy(recommender)
    asked = requests_of(SPLITS, "validation")
    scores = model.score_all(asked)
    with torch.no_grad():
        model.head.context.weight.zero_()
    silent = model.score_all(asked)
    model.head.context, model._encoder = None, NO_CONTEXT
    np.testing.assert_array_equal(model.score_all(list(asked)), silent)
    assert np.abs(scores - silent).max() > 1e-4


def test_scores_read_the_context_of_each_request(recommender: Recommender) -> None:
    asked = requests_of(SPLITS, "validation")
    scores = recommender.score_all(asked)
    later = replace(asked, moments=asked.moments + 40_000)
    assert np.abs(recommender.score_all(later) - scores).max() > 1e-4
    strangers = replace(asked, attributes=[{"gender": "unknown"}] * len(asked))
    assert np.abs(recommender.score_all(strangers) - scores).max() > 1e-4
    np.testing.assert_allclose(recommender.score_all(asked[40:42]), scores[40:42], atol=1e-5)
    with pytest.raises(DataError, match="histories alone"):
        recommender.score_all(list(asked))


def test_units_without_context_are_refused(recommender: Recommender) -> None:
    plain = small_config({"head_matrix": "per_lag"})
    batch = some_contributions(recommender, some_units(plain, 2), plain)
    with pytest.raises(DataError, match="reads 11 context features, the units have 0"):
        losses(recommender, batch)


def test_a_sites_own_metrics_and_its_own_tower_read_it(recommender: Recommender) -> None:
    recommender = copy.deepcopy(recommender)
    with torch.no_grad():
        recommender.head.context.weight.mul_(50.0)  # loud enough to change ranks
    asked = metrics_by_user(recommender, SPLITS, "validation")
    strangers = [replace(split, attributes={"gender": "unknown"}) for split in SPLITS]
    assert (metrics_by_user(recommender, strangers, "validation")["mrr"] != asked["mrr"]).any()
    assert "head.context.weight" in user_side(recommender)


@pytest.mark.parametrize("clipping", ["gradient", pytest.param("update", marks=pytest.mark.slow)])
def test_the_start_up_proof_covers_it(clipping: str) -> None:
    run = small_config(HEADS["symmetric"], clipping=clipping)
    report = prove_private_step(run, DATASET.catalogue)
    assert report.sensitivity <= 1 + 1e-5
    assert report.tensors == 2  # the matrix of the history, and that of the context
