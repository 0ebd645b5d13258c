"""Debian's package index, made small: parsing, choice of items, sources, cache."""

from __future__ import annotations

import lzma

import pyarrow.parquet as pq
import pytest

import simulations.debian_packages as debian
import simulations.debian_sources as sources
from common.config import DataConfig
from common.errors import DataError
from common.holdout import hold_out
from simulations.datasets import fetch_debian_packages, fetch_public, load_dataset

LIBRARIES = 12
LONG = " ".join(f"word{n}" for n in range(25))


def index(users: int = 40) -> tuple[str, str]:
    """A release with some libraries and many sources that use a window of them."""
    packages, translation = [], []
    for n in range(LIBRARIES):
        packages.append(f"Package: lib{n}\nSource: libsource{n} (1.0-{n})\nVersion: 1\n")
        translation.append(f"Package: lib{n}\nDescription-en: library {n}\n {LONG}\n .\n end.\n")
    for n in range(users):
        used = [f"lib{(n + k) % LIBRARIES}" for k in range(9)]
        depends = f"{used[0]} (>= 1.2), {used[1]}:any, {used[2]}|virtual-thing, app{n}-data, libc"
        packages.append(
            f"Package: app{n}\nDepends: {depends}\nRecommends: {', '.join(used[3:6])}\n"
            f"Suggests: {', '.join(used[6:])}\n"
        )
        packages.append(f"Package: app{n}-data\nSource: app{n}\n")
    packages.append("Package: libc\n")
    translation.append(f"Package: libc\nDescription-en: the C library\n {LONG}\n")
    return "\n".join(packages), "\n".join(translation)


@pytest.fixture
def small(monkeypatch):
    """Limits that fit the small index: 9 in 12 libraries by any source, libc by every one."""
    monkeypatch.setattr(debian, "MOST_SHARED", 0.9)
    monkeypatch.setattr(debian, "LEAST_SOURCES", 5)
    return index()


@pytest.fixture
def folder(small, tmp_path, monkeypatch):
    path = tmp_path / "index"
    path.mkdir()
    for name, text in zip((debian.PACKAGES, debian.TRANSLATION), small, strict=True):
        (path / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("FEDREC_DEBIAN_SOURCE", str(path))
    return path


def parsed(small):
    return debian.parse_debian(*(text.splitlines(keepends=True) for text in small))


def test_relations_become_interactions(small):
    raw = parsed(small)
    rows = raw.interactions.to_pylist()
    assert {row["item_id"] for row in rows if row["user_id"] == "app3"} == {
        f"lib{(3 + k) % LIBRARIES}" for k in range(9)
    }
    assert {row["timestamp"] for row in rows} == {0}
    assert len(rows) == 9 * 40


def test_what_all_use_and_what_is_of_the_own_source_is_left_out(small):
    items = parsed(small).items.to_pydict()
    assert sorted(items["item_id"]) == sorted(f"lib{n}" for n in range(LIBRARIES))


def test_text_is_name_synopsis_and_description(small):
    items = parsed(small).items.to_pydict()
    assert dict(zip(items["item_id"], items["text"], strict=True))["lib7"] == (
        f"lib7: library 7. {LONG} end."
    )


def test_short_descriptions_and_rare_items_are_left_out(small, monkeypatch):
    packages, translation = small
    short = translation.replace(f"library 7\n {LONG}", "library 7\n short")
    assert "lib7" not in parsed((packages, short)).items.to_pydict()["item_id"]
    monkeypatch.setattr(debian, "LEAST_SOURCES", 41)
    with pytest.raises(DataError, match="give a whole release's index"):
        parsed(small)


def test_few_sources_are_drawn_by_hash(small, monkeypatch):
    monkeypatch.setattr(debian, "MOST_SOURCES", 7)
    users = parsed(small).users.to_pydict()["user_id"]
    assert len(users) == 7
    assert users != [f"app{n}" for n in range(7)]


def test_order_is_of_the_seeded_hash_alone(folder, tmp_path):
    data = load_dataset(DataConfig(dataset=debian.NAME), tmp_path / "cache")
    assert len(data.interactions.user_ids) == 40
    orders = [
        [split.test.items[0] for split in hold_out(
            data.interactions, data.catalogue, split="leave_one_out", seed=seed
        )]
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert orders[0] == orders[1] != orders[2]
    assert "free licences" in data.licence


def test_a_damaged_cache_is_refused(folder, tmp_path):
    heard: list[str] = []
    cached = fetch_debian_packages(tmp_path / "cache", notify=heard.append)
    assert any("SHA-256" in line for line in heard)
    path = cached / "items.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(DataError, match="delete the folder and fetch again"):
        load_dataset(DataConfig(dataset=debian.NAME), tmp_path / "cache")


def test_compressed_files_are_the_same(folder, tmp_path):
    plain = sources.from_local(folder)
    for name in (debian.PACKAGES, debian.TRANSLATION):
        text = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / f"{name}.xz").write_bytes(lzma.compress(text))
    assert sources.from_local(folder).sha256() == plain.sha256()


def test_faults_are_one_line(folder, tmp_path, monkeypatch):
    (folder / debian.PACKAGES).write_text("no field here\n", encoding="utf-8")
    with pytest.raises(DataError, match="Packages: line 1 is no field"):
        fetch_public(debian.NAME, tmp_path / "cache")
    (folder / debian.PACKAGES).unlink()
    with pytest.raises(DataError, match="no file Packages there"):
        fetch_public(debian.NAME, tmp_path / "cache")
    monkeypatch.delenv("FEDREC_DEBIAN_SOURCE")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="needs apt-get .* set FEDREC_DEBIAN_SOURCE"):
        fetch_public(debian.NAME, tmp_path / "cache")
    with pytest.raises(DataError, match="fetch movielens-100k or debian-packages"):
        fetch_public("films", tmp_path)


def test_the_release_is_told_from_updates_and_others():
    shown = (
        "Packages|stable-updates|main|Debian|/a\n"
        "Packages|stable|contrib|Debian|/b\n"
        "Packages|stable|main|Other|/c\n"
        "Packages|stable|main|Debian|/d\n"
        "Translations|stable|main|Debian|/e\n"
    )
    assert [str(path) for path in sources.index_files(shown)] == ["/d", "/e"]
    with pytest.raises(DataError, match="no Debian release"):
        sources.index_files(shown.replace("Translations", "Contents"))
