"""Shown items as negatives: which ones train, the cap, the bound on a unit, the refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from client.agent import SiteData
from client.local_steps import drawn
from client.unit_updates import clipped_update_sum
from common.adapters import trainable_parameters
from common.build_recommender import build_recommender
from common.config import DataConfig, FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.config_loading import load_config
from common.errors import ConfigError, DataError
from common.holdout import ItemSequence, UserSplit, hold_out
from common.privacy_units import Unit, draw_contribution, make_units
from common.randomness import seeded_source
from common.shown_items import ShownItems, shown_items, shown_table, trained_shown
from simulations.public.shown import not_clicked, refuse_shown_in_pool, shown_of
from simulations.public.tables import Impression
from simulations.synthetic import synthetic_dataset

DATASET = synthetic_dataset()


def run_config(bound: float = 0.01, clipping: str = "update") -> RunConfig:
    return RunConfig(
        data=DataConfig(shown_negatives=True),
        model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2),
        privacy=PrivacyConfig(
            mode="local",
            clipping=clipping,
            max_grad_norm=bound,
            targets_per_unit=4,
            negatives_per_unit=8,
            shown_per_unit=5,
            noise_multiplier=1.0,
        ),
        federation=FederationConfig(local_steps=2, local_lr=0.5),
    )


def units(count: int) -> list[Unit]:
    splits = hold_out(DATASET.interactions, DATASET.catalogue, split="leave_one_out", seed=0)
    return make_units(splits, max_history=150, shown={})[:count]


def with_shown(unit: Unit, seed: int, size: int = 30) -> Unit:
    others = np.setdiff1d(np.arange(80), unit.positives)
    return replace(unit, shown=np.random.default_rng(seed).permutation(others)[:size])


def test_only_impressions_train_whose_clicks_all_do() -> None:
    def part(items: list[int], times: list[int]) -> ItemSequence:
        return ItemSequence(np.array(items), np.ones(len(items), np.float32), np.array(times))

    split = UserSplit("u", part([1, 2, 3], [10, 20, 30]), part([4], [30]), part([5], [50]))
    shown = {"u": ShownItems(np.array([7, 1, 8, 9, 11]), np.array([10, 20, 20, 30, 50]))}
    # 1 was clicked; 9 stands beside the validation click, 11 beside the test click.
    assert trained_shown(split, shown).tolist() == [7, 8]
    assert trained_shown(replace(split, user_id="other"), shown).tolist() == []


def test_shown_items_fill_at_most_their_cap_and_the_rest_is_drawn() -> None:
    run, recommender = run_config(), build_recommender(run_config(), DATASET.catalogue)
    unit = with_shown(units(1)[0], 1)
    assert unit.shown is not None
    for seed in range(20):
        contribution = drawn(recommender, unit, run, seeded_source(seed))
        others = np.setdiff1d(np.arange(len(contribution.candidates)), contribution.target_columns)
        negatives = contribution.candidates[others]
        assert len(negatives) == 8
        assert not np.isin(negatives, unit.positives).any()
        assert np.isin(negatives, unit.shown).sum() >= 5
    few = replace(unit, shown=unit.shown[:2])
    assert set(unit.shown[:2]) <= set(drawn(recommender, few, run, seeded_source(1)).candidates)


def test_without_the_key_a_unit_with_shown_items_draws_the_same_bits() -> None:
    plain = units(1)[0]
    arguments = {"catalogue_size": 80, "targets": 4, "negatives": 8, "lora_rows": 4}
    made = [
        draw_contribution(unit, source=seeded_source(3), **arguments)
        for unit in (plain, with_shown(plain, 1))
    ]
    assert np.array_equal(made[0].candidates, made[1].candidates)
    assert np.array_equal(made[0].live_scale, made[1].live_scale)


@pytest.mark.parametrize("size", [1, 70])
def test_neighbouring_sites_differ_by_at_most_the_clip_norm(size: int) -> None:
    run = run_config()
    recommender = build_recommender(run, DATASET.catalogue)
    recommender.keep_table_for(repr(run))
    recommender.train()
    site = [with_shown(unit, n) for n, unit in enumerate(units(3))]
    extra = with_shown(units(4)[3], 9, size)

    def total(of: list[Unit]) -> dict[str, torch.Tensor]:
        source = seeded_source(1, "sampling")
        return clipped_update_sum(recommender, of, run, server_round=1, sampling=source)

    without, added = total(site), total([*site, extra])
    gap = math.sqrt(sum(float((added[n] - without[n]).square().sum()) for n in added))
    bound = run.privacy.max_grad_norm
    assert 0.5 * bound < gap <= bound * (1 + 1e-9)  # the bound is reached, so it is tested
    assert list(added) == list(trainable_parameters(recommender))


def test_an_impression_stands_at_its_last_click_without_what_was_clicked() -> None:
    rows, ids = DATASET.interactions, DATASET.catalogue.item_ids
    user = rows.user_ids[0]
    its = rows.item[rows.user == 0]
    time = int(rows.timestamp[rows.user == 0].max())
    last = its[rows.timestamp[rows.user == 0].argmax()]
    other = next(i for i in range(len(ids)) if i not in its)
    items, clicked = (ids[last], ids[other], "unknown"), (True, False, False)
    none = Impression(user, time + 5, (ids[other],), (False,))
    found = not_clicked([Impression(user, time, items, clicked), none], DATASET)
    assert found[user].items.tolist() == [other]
    assert found[user].timestamps.tolist() == [time]
    table = shown_table(found, DATASET.catalogue, rows.user_ids)
    assert shown_items(table, DATASET.catalogue, "here")[user].items.tolist() == [other]


def test_what_cannot_use_shown_items_refuses_in_one_line() -> None:
    for key, value in (
        ("model.objective", "rating"),
        ("privacy.unit", "example"),
        ("evaluation.audit_canaries", "10"),
    ):
        with pytest.raises(ConfigError, match=r"data\.shown_negatives needs"):
            load_config(overrides=["data.shown_negatives=true", f"{key}={value}"])
    asked = DataConfig(shown_negatives=True)
    with pytest.raises(DataError, match="does not say what was shown"):
        shown_of(asked, DATASET)
    with pytest.raises(DataError, match="pooled"):
        refuse_shown_in_pool(asked)
    with pytest.raises(DataError, match="column item_id"):
        shown_items(pa.table({"user_id": ["u"]}), DATASET.catalogue, "here")
    site = SiteData(
        "a", 1, False, DATASET.catalogue, DATASET.interactions, DATASET.users, DATASET.report
    )
    with pytest.raises(DataError, match=r"site a has no shown\.parquet"):
        site.shown_for(run_config())
