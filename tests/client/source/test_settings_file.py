"""``source.toml``: all faults at once, each with its remedy, and no secret in any."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from client.source.password import read_password
from client.source.settings import Connection
from client.source.settings_file import parse_source, read_name, read_source
from common.errors import ConfigError
from tests.site_sources import CSV_SOURCE

SQL = """
[site]
name = "north"
declared_units = 20
[source]
kind = "sql"
url = "postgresql+psycopg://reader@db.internal:5432/shop"
[interactions]
table = "shop.orders"
user_id = "customer"
item_id = "sku"
timestamp = "at"
[items]
catalogue = "items.parquet"
"""


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_source(tomllib.loads(text))
    return caught.value.faults


def test_good_settings() -> None:
    settings = parse_source(tomllib.loads(CSV_SOURCE))
    assert settings.items.columns == ("sku", "title", "brand", "kinds")
    assert settings.interactions.columns == ("customer", "sku", "at", "stars")
    assert parse_source(tomllib.loads(SQL)).source.incremental is False


def test_all_faults_at_once() -> None:
    text = SQL.replace("declared_units = 20", "declared_units = 0\nsurprise = 1")
    text = text.replace('"sql"', '"sql"\ntime_zone = "Mars/Base"\nbatch_row = 5')
    text = text.replace('timestamp = "at"', 'time_format = "%Q"\nfile = "x.csv"')
    text = text.replace("catalogue", "catalog")
    found = "\n".join(faults_of(text))
    for said in (
        "site.declared_units (the public number of users, rounded; never the exact one) = 0",
        "unknown key site.surprise; known: name, declared_units",
        "unknown key source.batch_row; did you mean batch_rows?",
        "source.time_zone is not known",
        "interactions.timestamp (the column of the times) is missing; add it",
        "interactions.time_format must be one of auto, unix",
        "interactions.file is not for kind = sql; use table or query",
        "unknown key items.catalog; did you mean catalogue?",
        "items has no place; give table or query or catalogue",
    ):
        assert said in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("reader@", "reader:canary-secret@", "source.url holds a password"),
        ("/shop\"", "/shop?password=canary-secret\"", "source.url holds a password"),
        ("postgresql+psycopg", "mysql", "must begin with postgresql+psycopg:// or sqlite:///"),
        ("db.internal", "[canary-secret", "source.url is no address"),
        ('kind = "sql"', 'kind = "csv"', "source.url is for kind = sql; leave it out"),
        ('kind = "sql"', 'kind = "sql"\npassword_env="A"\npassword_file="b"', "keep one of them"),
        ('table = "shop.orders"', 'table = "a"\nquery = "SELECT 1"', "keep one of them"),
        ('table = "shop.orders"', "", "interactions has no place; give table or query"),
        ("[items]", '[items]\ntable = "x"', "items.table stands beside catalogue"),
        ("[items]", '[items]\ncatalogue_sha256 = "abc"', "64 hexadecimal digits"),
        ('catalogue = "items.parquet"', 'table="x"\nitem_id="i"\ntext="{a"', "items.text is no"),
        ('catalogue = "items.parquet"', 'table="x"\nitem_id="i"\ntext="a"', "names no column"),
        ('catalogue = "items.parquet"', 'table="x"\ntext="{a}"', "items.item_id"),
        ("[items]", '[users]\ntable="u"\nuser_id="i"\nattributes={user_id="x"}\n[items]', "an id"),
        ("[items]", '[[interactions.filters]]\ncolumn="x"\n[items]', "has no condition"),
        ("[items]", '[[interactions.filters]]\ncolumn="x"\nequal=1\n[items]', "mean equals?"),
        ("declared_units = 20", 'declared_units = "canary-secret"', "declared_units"),
        ("[site]", "schema_version = 2\n[site]", "schema_version"),
    ],
)  # fmt: skip
def test_single_faults(old: str, new: str, said: str) -> None:
    assert old in SQL
    found = faults_of(SQL.replace(old, new, 1))
    assert any(said in fault for fault in found), found
    assert all("canary" not in fault and "\n" not in fault for fault in found)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read source.toml"):
        read_source(tmp_path)
    (tmp_path / "source.toml").write_bytes(b"\xff")
    for read in (read_source, read_name):
        with pytest.raises(ConfigError, match="it is not UTF-8 text"):
            read(tmp_path)
    (tmp_path / "source.toml").write_text("[site]\n")
    with pytest.raises(ConfigError, match="site.name is missing"):
        read_name(tmp_path)


def connection(**options: Any) -> Connection:
    return Connection(kind="sql", url="postgresql://x@y/z", **options)


def test_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_password(connection(), tmp_path) is None
    monkeypatch.setenv("CANARY_ENV", "canary-secret")
    assert read_password(connection(password_env="CANARY_ENV"), tmp_path) == "canary-secret"
    monkeypatch.delenv("CANARY_ENV")
    with pytest.raises(ConfigError, match="variable that is not set"):
        read_password(connection(password_env="CANARY_ENV"), tmp_path)
    file = tmp_path / "password"
    by_file = connection(password_file="password")
    with pytest.raises(ConfigError, match=r"cannot read source.password_file: no such file"):
        read_password(by_file, tmp_path)
    file.write_text("canary-secret\n")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="may be read by others; chmod 600") as caught:
        read_password(by_file, tmp_path)
    assert "canary" not in str(caught.value)
    file.chmod(0o600)
    assert read_password(by_file, tmp_path) == "canary-secret"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_password(by_file, tmp_path)
