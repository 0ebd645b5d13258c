"""The readers of public formats: what they make of a file, and what they say of a broken one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from common.config import DataConfig
from common.errors import DataError
from simulations.datasets import load_dataset
from simulations.public.ads import read_ads
from simulations.public.loading import READERS, impressions_of
from simulations.public.music import read_music
from simulations.public.news import read_news
from simulations.public.products import read_products
from simulations.public.samples import SAMPLES

STORY = "N1\tsports\tsoccer\tA late goal\tIt was late.\t\t[]\t[]\n"
OTHER = 'N2\tnews\ttax\tTaxes rise\t\t\t[{"Label": "Tax Office"}]\t[]\n'


def test_news_history_comes_before_clicks_and_what_was_shown_is_kept(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "news.tsv").write_text(STORY + OTHER, encoding="utf-8")
    (tmp_path / "train" / "behaviors.tsv").write_text(
        "1\tU1\t11/15/2019 10:22:32 AM\tN2\tN1-1 N9-0\n", encoding="utf-8"
    )
    found = read_news(tmp_path)
    rows = found.raw.interactions.to_pylist()
    assert [(row["item_id"], row["timestamp"]) for row in rows] == [
        ("N2", 1573813351),
        ("N1", 1573813352),
    ]
    assert found.raw.items.to_pylist()[1]["text"] == "Taxes rise. news, tax"
    assert found.raw.items.to_pylist()[1]["genres"] == ["news", "tax", "Tax Office"]
    assert found.impressions[0].items == ("N1", "N9")
    assert found.impressions[0].clicked == (True, False)


def test_products_of_both_collections(tmp_path: Path) -> None:
    old = '{"reviewerID": "A", "asin": "B1", "overall": 4.0, "unixReviewTime": 1000}\n'
    new = '{"user_id": "A", "parent_asin": "B2", "rating": 2.0, "timestamp": 2000999}\n'
    (tmp_path / "reviews.json").write_text(old + new, encoding="utf-8")
    goods = (
        '{"asin": "B1", "title": "Lamp", "categories": [["Home", "Light"]], "brand": "Lux"}\n'
        '{"parent_asin": "B2", "title": "Pan", "categories": ["Kitchen"], "features": ["steel"]}\n'
        '{"parent_asin": "B3", "title": ""}\n'
    )
    (tmp_path / "meta_home.jsonl.gz").write_bytes(gzip.compress(goods.encode()))
    found = read_products(tmp_path).raw
    assert [
        (r["item_id"], r["timestamp"], r["rating"]) for r in found.interactions.to_pylist()
    ] == [
        ("B1", 1000, 4.0),
        ("B2", 2000, 2.0),
    ]
    texts = found.items.to_pydict()["text"]
    assert texts == ["Lamp. Lux. Home, Light", "Pan. Kitchen. steel"]


def test_ads_are_put_together_by_pauses(tmp_path: Path) -> None:
    (tmp_path / "ad_feature.csv").write_text(
        "adgroup_id,cate_id,campaign_id,customer,brand,price\n7,10,1,1,NULL,15.0\n8,11,1,1,3,99\n",
        encoding="utf-8",
    )
    (tmp_path / "user_profile.csv").write_text(
        "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
        "occupation,new_user_class_level \n5,0,1,2,3,,1,0,\n",
        encoding="utf-8",
    )
    (tmp_path / "raw_sample.csv").write_text(
        "user,time_stamp,adgroup_id,pid,nonclk,clk\n5,1000,7,p,1,0\n5,2000,8,p,0,1\n"
        "5,9000,7,p,0,1\n",
        encoding="utf-8",
    )
    found = read_ads(tmp_path)
    shown = [(each.timestamp, each.items, each.clicked) for each in found.impressions]
    assert shown == [(2000, ("7", "8"), (False, True)), (9000, ("7",), (True,))]
    assert found.raw.items.to_pydict()["text"][0] == "Category 10, no brand, price about 16"
    assert found.raw.users.to_pylist()[0]["age_level"] == "3"


def test_a_first_listen_counts_and_names_make_the_text(tmp_path: Path) -> None:
    lines = [
        "u1\t2009-05-04T23:08:57Z\ta1\tDeep Dish\t\tFuck Me Im Famous",
        "u1\t2009-05-03T00:00:00Z\ta1\tDeep Dish\t\tCity",
        "u1\t2009-05-05T00:00:00Z\t\tNobody\t\t",
    ]
    name = "userid-timestamp-artid-artname-traid-traname.tsv"
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read_music(tmp_path).raw
    assert found.interactions.to_pydict()["item_id"] == ["a1", "name:Nobody"]
    assert found.interactions.to_pydict()["timestamp"][0] == 1241308800
    assert found.items.to_pydict()["text"] == ["Deep Dish. City, Fuck Me Im Famous", "Nobody"]


@pytest.mark.parametrize(
    ("name", "file", "line"),
    [
        ("news", "behaviors.tsv", "1\tU1\t11/15/2019 10:22:32 AM\t\tN1 N2"),
        ("news", "behaviors.tsv", "1\tU1\tyesterday\t\tN1-1 N2-0"),
        ("news", "news.tsv", "N1\tsports"),
        ("products", "reviews.jsonl.gz", '{"user_id": "A"}'),
        ("products", "reviews.jsonl.gz", "[1]"),
        ("ads", "raw_sample.csv", "1,2,3,4,1,1"),
        ("ads", "ad_feature.csv", "1,2,3,4,5,cheap"),
        ("music", "userid-timestamp-artid-artname-traid-traname.tsv", "u\tnow\ta\tb\tc\td"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, name: str, file: str, line: str) -> None:
    SAMPLES[name](tmp_path, 0)
    path = tmp_path / file
    whole = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    broken = whole + line.encode() + b"\n"
    path.write_bytes(gzip.compress(broken) if path.suffix == ".gz" else broken)
    number = broken.count(b"\n")
    with pytest.raises(DataError, match=f"{file}: line {number} is wrong .*remove the line"):
        READERS[name](tmp_path)


def test_half_a_gzip_file_is_named(tmp_path: Path) -> None:
    SAMPLES["products"](tmp_path, 0)
    path = tmp_path / "reviews.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read after line"):
        read_products(tmp_path)


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_missing_file_or_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"data\.folder"):
        load_dataset(DataConfig(dataset=name, folder=str(tmp_path)))
    with pytest.raises(DataError, match="is no folder"):
        load_dataset(DataConfig(dataset=name, folder=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_sample_says_that_it_is_one_and_reads_as_real_files_do(tmp_path: Path, name: str) -> None:
    heard: list[str] = []
    sample = load_dataset(DataConfig(dataset=name, seed=3), notify=heard.append)
    assert "generated sample" in heard[0]
    assert sample.name == f"{name} (generated sample)"
    SAMPLES[name](tmp_path, 3)
    real = load_dataset(DataConfig(dataset=name, folder=str(tmp_path)))
    assert real.name == name
    assert real.catalogue.sha256 == sample.catalogue.sha256
    assert (real.interactions.item == sample.interactions.item).all()
    has_impressions = bool(impressions_of(DataConfig(dataset=name, folder=str(tmp_path))))
    assert has_impressions == (name in ("news", "ads"))
