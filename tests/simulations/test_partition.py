"""Site folders: all rows are there once, the write is whole or not at all."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest

import simulations.partition as partition
from client.site_data import load_site
from common.config import DataConfig
from common.errors import DataError
from common.holdout import hold_out
from common.site_folder import read_sites
from simulations.partition import partition_users, write_site_folders
from simulations.synthetic import synthetic_dataset

DATA = synthetic_dataset()


def config(**values):
    return DataConfig(dataset="synthetic", **values)


def test_sites_together_hold_the_data_once(tmp_path):
    folders = write_site_folders(DATA, config(sites=7), tmp_path / "deep" / "sites")
    assert [folder.name for folder in folders] == [f"site-{n:04d}" for n in range(7)]
    assert read_sites(tmp_path / "deep" / "sites") == folders
    seen = set()
    for folder, part in zip(folders, partition_users(DATA, config(sites=7)), strict=True):
        site = load_site(folder)
        expected = [DATA.users.user_ids[user] for user in part]
        assert list(site.users.user_ids) == expected
        assert site.declared_units == len(part)
        assert site.declared_examples == sum(len(s.train) for s in site.splits("leave_one_out", 0))
        assert site.catalogue.sha256 == DATA.catalogue.sha256
        rows = site.interactions
        seen |= {
            (rows.user_ids[u], int(i), float(r), int(t))
            for u, i, r, t in zip(rows.user, rows.item, rows.rating, rows.timestamp, strict=True)
        }
    whole = DATA.interactions
    columns = (whole.user, whole.item, whole.rating, whole.timestamp)
    assert seen == {
        (whole.user_ids[u], int(i), float(r), int(t)) for u, i, r, t in zip(*columns, strict=True)
    }


def test_attributes_follow_their_users(tmp_path):
    folders = write_site_folders(DATA, config(sites=60), tmp_path / "sites")
    everyone = dict(zip(DATA.users.user_ids, DATA.users.attributes["age"], strict=True))
    for folder in folders:
        users = load_site(folder).users
        assert users.attributes["age"] == tuple(everyone[user] for user in users.user_ids)


def test_the_hold_out_is_the_same_at_the_site(tmp_path):
    pooled = {
        s.user_id: s.test.items.tolist()
        for s in hold_out(DATA.interactions, DATA.catalogue, split="last_fifth", seed=3)
    }
    for folder in write_site_folders(DATA, config(sites=9), tmp_path / "sites"):
        for split in load_site(folder).splits("last_fifth", 3):
            assert split.test.items.tolist() == pooled[split.user_id]


def test_the_catalogue_is_written_once(tmp_path):
    folder = tmp_path / "sites"
    write_site_folders(DATA, config(sites=60), folder)
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("items.parquet")] == [
        "items.parquet"
    ]
    manifest = json.loads((folder / "site-0059" / "site.json").read_text())
    assert manifest["catalogue"] == "../items.parquet"
    assert manifest["simulated"] is True


def test_a_second_write_replaces_the_first(tmp_path):
    write_site_folders(DATA, config(sites=5), tmp_path / "sites")
    write_site_folders(DATA, config(sites=2), tmp_path / "sites")
    assert sorted(p.name for p in (tmp_path / "sites").iterdir()) == [
        "items.parquet", "site-0000", "site-0001", "sites.json",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["sites"]


def test_a_ledger_in_a_site_is_never_replaced(tmp_path):
    folders = write_site_folders(DATA, config(sites=2), tmp_path / "sites")
    (folders[0] / "ledger.sqlite").write_text("spent")
    with pytest.raises(DataError, match=r"holds site-0000/ledger\.sqlite"):
        write_site_folders(DATA, config(sites=3), tmp_path / "sites")
    assert (folders[0] / "ledger.sqlite").read_text() == "spent"


@pytest.mark.parametrize("name", ["notes.txt", "site-0000"])
def test_foreign_files_are_never_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    if name == "site-0000":
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("mine")
    with pytest.raises(DataError, match="which a partition did not write"):
        write_site_folders(DATA, config(sites=2), tmp_path)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "sites").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        write_site_folders(DATA, config(sites=2), tmp_path / "sites")


@pytest.mark.parametrize("earlier", [False, True])
def test_full_disk_leaves_what_was_there(tmp_path, monkeypatch, earlier):
    if earlier:
        write_site_folders(DATA, config(sites=2), tmp_path / "sites")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    real = partition.write_users
    written = []

    def fail_later(path, users, rows):
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, users, rows)

    monkeypatch.setattr(partition, "write_users", fail_later)
    with pytest.raises(
        DataError, match="cannot be written \\(No space left on device\\)"
    ) as caught:
        write_site_folders(DATA, config(sites=5), tmp_path / "sites")
    assert "\n" not in str(caught.value)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_a_failed_swap_puts_the_earlier_folder_back(tmp_path):
    write_site_folders(DATA, config(sites=2), tmp_path / "sites")
    with pytest.raises(OSError, match="absent"):
        partition._swap_in(tmp_path / "absent", tmp_path / "sites", tmp_path / "old")
    assert len(read_sites(tmp_path / "sites")) == 2


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(partition, "write_users", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_site_folders(DATA, config(sites=5), tmp_path / "sites")
    assert list(tmp_path.iterdir()) == []


def test_one_site_has_everyone(tmp_path):
    (folder,) = write_site_folders(DATA, config(sites=1), tmp_path / "sites")
    assert np.array_equal(load_site(folder).interactions.item, DATA.interactions.item)
