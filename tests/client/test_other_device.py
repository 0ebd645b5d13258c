"""Training and scoring with the model on another device than the CPU give the CPU's results.

The second device of `tests.second_device` needs no GPU and fails where tensors of two devices
meet; with the marker `gpu` the same tests run on a CUDA device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from client.local_training import sampled_unit_sum, train_plain, train_private
from client.self_test_step import self_test
from common.adapters import Adapter, adapter_of, load_adapter, wire_name
from common.config import RunConfig
from common.privacy_units import Unit, collate
from common.randomness import seeded_source
from common.recommender import Recommender
from tests.second_device import MixedDevices, second_device
from tests.training_case import (
    MODELS,
    moved_recommender,
    small_config,
    some_batch,
    some_contributions,
    some_units,
)

TOLERANCE = {"meta": 1e-5, "cuda": 2e-4}  # CUDA sums in another order, and twice over two steps
Train = Callable[[Recommender, list[Unit], RunConfig], None]


@pytest.fixture(params=["second", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "second":
        with second_device() as second:
            yield second
        return
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    yield torch.device("cuda", 0)


def on(device: torch.device, run: RunConfig, *, states_too: bool = True) -> Recommender:
    recommender = moved_recommender(run)
    if states_too:
        recommender.item_tower.prefix = recommender.item_tower.prefix.on(device)
    recommender.to(device)
    recommender.set_item_prior(recommender.item_prior)
    return recommender


def private_round(recommender: Recommender, units: list[Unit], run: RunConfig) -> None:
    train_private(
        recommender,
        units,
        run,
        server_round=1,
        expected_units=3.0,
        sampling=seeded_source(2, "sampling"),
        noise=seeded_source(2, "noise"),
    )


def plain_round(recommender: Recommender, units: list[Unit], run: RunConfig) -> None:
    train_plain(recommender, units, run, server_round=1, sampling=seeded_source(2, "sampling"))


def trained(recommender: Recommender, units: list[Unit], run: RunConfig, train: Train) -> Adapter:
    train(recommender, units, run)
    return adapter_of(recommender)


@pytest.mark.parametrize(
    ("model", "train", "privacy"),
    [
        *((name, private_round, {}) for name in MODELS),
        ("history with gradient", private_round, {"clipping": "update"}),
        ("bilinear with codes", plain_round, {"mode": "none"}),
    ],
)
def test_a_round_of_training_is_the_cpus(
    device: torch.device, model: str, train: Train, privacy: dict[str, object]
) -> None:
    run = small_config(MODELS[model], **privacy)
    units = some_units(run, 4)
    start = adapter_of(moved_recommender(run))
    expected = trained(moved_recommender(run), units, run, train)
    got = trained(on(device, run), units, run, train)
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, atol=TOLERANCE[device.type], err_msg=name)
    assert max(np.abs(expected[name] - start[name]).max() for name in start) > 1e-2


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_losses_scores_and_sums_are_the_cpus(
    device: torch.device, model: dict[str, object]
) -> None:
    run = small_config(model)
    here, there = moved_recommender(run), on(device, run)
    batch, tolerance = some_batch(here, run), TOLERANCE[device.type]
    expected = here.unit_losses(batch).detach()
    for given in (batch, batch.to(device)):
        losses = there.unit_losses(given).detach()
        assert losses.device == device
        torch.testing.assert_close(losses.cpu(), expected, atol=tolerance, rtol=tolerance)
    histories = [unit.items for unit in some_units(run, 3)] + [np.array([], dtype=np.int64)]
    scores = there.score_all(histories)
    assert (type(scores), scores.dtype) == (np.ndarray, np.float32)
    np.testing.assert_allclose(scores, here.score_all(histories), atol=10 * tolerance)
    units = some_units(run, 3)
    sums = [
        sampled_unit_sum(each, units, run, server_round=1, sampling=seeded_source(3, "s"))
        for each in (here, there)
    ]
    for name, array in sums[0].items():
        np.testing.assert_allclose(sums[1][name], array, atol=10 * tolerance, err_msg=name)


def test_states_may_stay_in_the_machines_memory(device: torch.device) -> None:
    run = small_config(MODELS["bilinear with codes"])
    near, far = on(device, run), on(device, run, states_too=False)
    assert near.item_tower.prefix.states.device == device
    assert far.item_tower.prefix.states.device == torch.device("cpu")
    table = far.table()
    assert table.device == device
    torch.testing.assert_close(table.cpu(), near.table().cpu(), atol=0, rtol=0)


def test_an_adapter_goes_there_and_back(device: torch.device) -> None:
    run = small_config(MODELS["fedit, multi-lag, trained terms"])
    recommender = on(device, run)
    adapter = {name: array + 1 for name, array in adapter_of(recommender).items()}
    load_adapter(recommender, adapter)
    for name, array in adapter_of(recommender).items():
        np.testing.assert_array_equal(array, adapter[name])


def test_the_self_test_passes_there(device: torch.device) -> None:
    run = small_config(MODELS["history with gradient"])
    recommender = on(device, run)
    contributions = some_contributions(recommender, some_units(run, 3), run)
    report = self_test(
        recommender,
        lambda: contributions,
        lambda some: recommender.unit_losses(collate(some, max_history=run.model.max_history)),
        declared_tensors=[n for n, p in recommender.named_parameters() if p.requires_grad],
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        sample_rate=0.5,
        source=seeded_source(4, "self-test"),
    )
    assert report.tensors == len(adapter_of(recommender))
    assert all(wire_name(name) in adapter_of(recommender) for name in ("head.mix.weight",))


@pytest.mark.parametrize("part", ["half_lives", "item_prior", "whitening.matrix", "head.places"])
def test_a_part_that_stays_on_the_cpu_is_noticed(device: torch.device, part: str) -> None:
    if device.type == "cuda":
        pytest.skip("CUDA takes an index from the CPU")
    run = small_config(MODELS["bilinear with codes"])
    recommender = on(device, run)
    module, _, name = part.rpartition(".")
    owner = recommender.get_submodule(module)
    setattr(owner, name, getattr(owner, name).cpu())
    with pytest.raises(MixedDevices):
        recommender.unit_losses(some_batch(moved_recommender(run), run))
