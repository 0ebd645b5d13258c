"""Users that a run keeps out: disjoint from those it trains on, and in no site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from common.config import DataConfig
from common.errors import DataError
from common.interactions import Dataset
from simulations.datasets import load_dataset, load_population
from simulations.held_out_users import held_out, of_users, participants
from simulations.site_layout import write_sites
from simulations.synthetic import synthetic_dataset

DATA = synthetic_dataset()


def config(share: float, seed: int = 0, **values: object) -> DataConfig:
    return DataConfig(dataset="synthetic", held_out_users=share, seed=seed, sites=4, **values)


def outside(share: float, seed: int = 0) -> Dataset:
    found = held_out(DATA, config(share, seed))
    assert found is not None
    return found


def test_by_default_the_population_itself_takes_part() -> None:
    assert participants(DATA, config(0.0)) is DATA
    assert held_out(DATA, config(0.0)) is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_everybody_is_in_or_out(share: float) -> None:
    inside, out = participants(DATA, config(share)), outside(share)
    assert len(out.users.user_ids) == round(share * 60)
    together = inside.users.user_ids + out.users.user_ids
    assert sorted(together) == sorted(DATA.users.user_ids)
    assert len(inside.interactions) + len(out.interactions) == len(DATA.interactions)


def test_a_user_keeps_rows_and_attributes() -> None:
    out = outside(0.5)
    rows, all_rows = out.interactions, DATA.interactions
    for place, name in enumerate(out.users.user_ids):
        before = DATA.users.user_ids.index(name)
        mine, theirs = rows.user == place, all_rows.user == before
        assert np.array_equal(rows.item[mine], all_rows.item[theirs])
        assert np.array_equal(rows.timestamp[mine], all_rows.timestamp[theirs])
        assert np.array_equal(rows.rating[mine], all_rows.rating[theirs])
        for values, kept in zip(
            DATA.users.attributes.values(), out.users.attributes.values(), strict=True
        ):
            assert kept[place] == values[before]


def test_the_seed_draws_others() -> None:
    assert outside(0.5).users.user_ids == outside(0.5).users.user_ids
    assert outside(0.5, seed=1).users.user_ids != outside(0.5).users.user_ids


def test_somebody_must_be_left() -> None:
    with pytest.raises(DataError, match=r"keeps all 1 users .* lower it"):
        participants(of_users(DATA, np.array([3])), config(0.9))


def test_a_run_loads_those_that_take_part() -> None:
    asked = config(0.5)
    assert load_dataset(asked).users.user_ids == participants(DATA, asked).users.user_ids
    assert len(load_population(asked).users.user_ids) == 60


@pytest.mark.parametrize("pooled", [False, True])
def test_no_site_holds_who_is_kept_out(tmp_path: Path, pooled: bool) -> None:
    write_sites(config(0.5), tmp_path / "sites", pooled=pooled)
    files = list((tmp_path / "sites").rglob("interactions.parquet"))
    held = {name for file in files for name in pq.read_table(file)["user_id"].to_pylist()}
    assert held == set(participants(DATA, config(0.5)).users.user_ids)


def test_data_that_could_be_streamed_keep_users_out_too(tmp_path: Path) -> None:
    write_sites(config(0.0), tmp_path / "all", pooled=True)
    source = tmp_path / "source"
    source.mkdir()
    for name in ("interactions", "items", "users"):
        (source / f"{name}.parquet").write_bytes(
            (tmp_path / "all" / f"{name}.parquet").read_bytes()
        )
    asked = DataConfig(dataset=str(source), held_out_users=0.5, sites=4)
    write_sites(asked, tmp_path / "sites", pooled=True)
    held = pq.read_table(tmp_path / "sites" / "interactions.parquet")["user_id"].to_pylist()
    assert len(set(held)) == 30
