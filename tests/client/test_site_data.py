"""A site's folder: what was written is read back, and every damage is one clear line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client.site_data import load_site
from common.config import DataConfig
from common.errors import DataError, PolicyRefusal
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset


@pytest.fixture
def site_folder(tmp_path):
    config = DataConfig(dataset="synthetic", sites=3)
    return write_site_folders(synthetic_dataset(users=12), config, tmp_path / "sites")[1]


def edit_manifest(folder, **changes):
    path = folder / "site.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_site_holds_its_users(site_folder):
    site = load_site(site_folder)
    assert (site.site, site.declared_units, site.simulated) == ("site-0001", 4, True)
    assert len(site.interactions.user_ids) == 4
    assert site.users.user_ids == site.interactions.user_ids
    assert len(site.users.attributes["gender"]) == 4
    splits = site.splits("leave_one_out", 0)
    assert [s.user_id for s in splits] == list(site.interactions.user_ids)
    assert sum(len(s.train) + 2 for s in splits) == len(site.interactions)


def test_a_site_declares_units_of_either_sort_or_refuses(site_folder):
    site = load_site(site_folder)
    examples = sum(len(split.train) for split in site.splits("leave_one_out", 0))
    assert (site.declared("user"), site.declared("example")) == (4, examples)
    edit_manifest(site_folder, declared_examples=None)
    with pytest.raises(
        PolicyRefusal, match=r"declares none; set declared_examples in its site\.js"
    ):
        load_site(site_folder).declared("example")
    assert load_site(site_folder).declared("user") == 4


def test_sites_of_a_process_share_one_catalogue(site_folder):
    other = load_site(site_folder.parent / "site-0000")
    assert load_site(site_folder).catalogue is other.catalogue


def test_users_file_is_optional(site_folder):
    (site_folder / "users.parquet").unlink()
    assert load_site(site_folder).users.attributes == {}


def test_own_catalogue_is_the_fallback(site_folder, tmp_path):
    alone = tmp_path / "elsewhere" / "site"
    shutil.copytree(site_folder, alone)
    with pytest.raises(DataError, match=r"items\.parquet: no such file"):
        load_site(alone)
    shutil.copy(site_folder.parent / "items.parquet", alone)
    assert np.array_equal(
        load_site(alone).interactions.item, load_site(site_folder).interactions.item
    )


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no such site folder"):
        load_site(tmp_path / "absent")


@pytest.mark.parametrize("name", ["site.json", "interactions.parquet"])
def test_missing_file(site_folder, name):
    (site_folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such file"):
        load_site(site_folder)


@pytest.mark.parametrize("name", ["site.json", "interactions.parquet", "users.parquet"])
def test_damaged_file(site_folder, name):
    path = site_folder / name
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match=name) as caught:
        load_site(site_folder)
    assert "\n" not in str(caught.value)


def test_changed_catalogue(site_folder):
    path = site_folder.parent / "items.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DataError, match="catalogue has SHA-256"):
        load_site(site_folder)


def test_manifest_faults_are_listed_together(site_folder):
    edit_manifest(site_folder, declared_units=0, surprise=1, schema_version=2)
    with pytest.raises(DataError) as caught:
        load_site(site_folder)
    for key in ("declared_units", "surprise", "schema_version"):
        assert f"{key}: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_site_without_users(site_folder):
    path = site_folder / "interactions.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match="site 'site-0001' has no users"):
        load_site(site_folder)


def test_site_whose_users_are_all_too_short(site_folder):
    path = site_folder / "interactions.parquet"
    pq.write_table(pq.read_table(path).slice(0, 1), path)
    with pytest.raises(DataError, match="no user has 3 usable interactions"):
        load_site(site_folder)


def test_wrong_type_in_a_sites_file(site_folder):
    path = site_folder / "interactions.parquet"
    table = pq.read_table(path)
    bad = table.set_column(2, "rating", pa.array([float("nan")] * table.num_rows))
    pq.write_table(bad, path)
    with pytest.raises(DataError, match=r"interactions\.parquet: `rating` must be a finite number"):
        load_site(site_folder)
