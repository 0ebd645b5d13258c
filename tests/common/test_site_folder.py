"""The format of a site's folder: written and read by the same definitions."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from common.errors import DataError
from common.interactions import Catalogue, build_catalogue
from common.site_folder import (
    SiteManifest,
    SitesManifest,
    read_manifest,
    read_sites,
    write_catalogue,
    write_manifest,
)

HASH = "0" * 64


def test_manifest_round_trip(tmp_path):
    manifest = SiteManifest(site="clinic", declared_units=5, dataset="d", catalogue_sha256=HASH)
    write_manifest(tmp_path / "site.json", manifest)
    assert read_manifest(tmp_path / "site.json", SiteManifest) == manifest
    assert manifest.catalogue == "items.parquet"
    assert manifest.simulated is False


def test_sites_are_listed_in_order(tmp_path):
    sites = SitesManifest(dataset="d", catalogue_sha256=HASH, sites=("b", "a"))
    write_manifest(tmp_path / "sites.json", sites)
    assert read_sites(tmp_path) == [tmp_path / "b", tmp_path / "a"]


def test_catalogue_round_trip(tmp_path):
    catalogue = Catalogue(("1", "2"), ("Été (1991)", "B"), (("Drama", "War"), ()))
    write_catalogue(tmp_path / "items.parquet", catalogue)
    again = build_catalogue(pq.read_table(tmp_path / "items.parquet"))
    assert again == catalogue
    assert again.sha256 == catalogue.sha256


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b"\xff\xfe"])
def test_damaged_sites_file_is_one_clear_line(tmp_path, content):
    (tmp_path / "sites.json").write_bytes(content)
    with pytest.raises(DataError, match=r"sites\.json: ") as caught:
        read_sites(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_the_file(tmp_path):
    (tmp_path / "sites.json").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        read_sites(tmp_path)
