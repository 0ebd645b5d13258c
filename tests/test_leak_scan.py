"""The scan for leaks finds what it looks for, however it is written, packed or sent."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from google.protobuf.message import DecodeError

from client import answering
from client.agent import SiteAgent
from client.resident.protocol import Request, RequestHead, content_to_bytes, parse_answer
from client.resident.site import ResidentSite
from client.source.refresh import refresh_site
from common.config import PrivacyConfig, RunConfig
from common.messages import POPULARITY_QUERY, PopularityRequest, encode_popularity_request
from tests.client.resident.conftest import frame_of
from tests.leak_scan import Canary, Finding, LeakScan
from tests.site_sources import csv_site

USER = "canary-user-17@example.org"
KEY = bytes(range(100, 132))
HISTORY = [12, 7, 55, 80, 3, 41, 66, 28, 9, 77]
ROW = HISTORY[1:9]


def scanner() -> LeakScan:
    canaries = [Canary.of("a user", USER), Canary.of("a key", KEY)]
    return LeakScan(canaries, [HISTORY])


def archived(content: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, text=np.frombuffer(content, np.uint8))
    return b"before" + buffer.getvalue() + b"after"


def in_database(content: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE object (content)")
        connection.execute("INSERT INTO object VALUES (?)", (gzip.compress(content),))
        connection.commit()
        return connection.serialize()


def in_parquet(content: bytes) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": [content.decode("latin-1")]}), buffer, compression="zstd")
    return buffer.getvalue()


def as_flower_object(record: ConfigRecord | MetricRecord | ArrayRecord) -> bytes:
    return b"".join(each.deflate() for each in get_all_nested_objects(record).values())


WRITTEN: dict[str, tuple[str, bytes]] = {
    "as it is": ("a user", USER.encode()),
    "utf-16": ("a user", USER.encode("utf-16")),
    "backwards": ("a user", USER[::-1].encode()),
    "inside base64": ("a user", base64.b64encode(b"user=" + USER.encode() + b";")),
    "inside base64, one on": ("a user", base64.b64encode(b"user=." + USER.encode() + b";")),
    "hexadecimal": ("a user", USER.encode().hex().encode()),
    "hashed without a key": ("a user", hashlib.sha256(USER.encode()).hexdigest().encode()),
    "escaped JSON": ("a user", json.dumps(json.dumps({"id": [USER]})).encode()),
    "an archive": ("a user", archived(USER.encode())),
    "a database": ("a user", in_database(USER.encode())),
    "a Parquet file": ("a user", in_parquet(USER.encode())),
    "a record": ("a user", as_flower_object(ConfigRecord({"note": USER.encode("utf-16-le")}))),
    "a key": ("a key", KEY),
    "a key in capitals": ("a key", KEY.hex().upper().encode()),
    "a key in url-safe base64": ("a key", base64.urlsafe_b64encode(b"\xff" + KEY)),
    "a key, wrapped": ("a key", gzip.compress(base64.b64encode(b"{" + KEY.hex().encode()))),
    "JSON": ("items in a row, as text", json.dumps(HISTORY).encode()),
    "JSON of texts": ("items in a row, as text", json.dumps(list(map(str, ROW))).encode()),
    "CSV": ("items in a row, as text", ",".join(map(str, ROW)).encode()),
    "a line each": ("items in a row, as text", "\n".join(f"item g{n}" for n in ROW).encode()),
    "floats": ("items in a row, as text", repr([float(n) for n in ROW]).encode()),
    "the last first": ("items in a row, as text", repr(HISTORY[::-1]).encode()),
    "in order": ("items in a row, as text", repr(sorted(HISTORY)).encode()),
    "wide": ("items in a row, as text", repr(ROW).encode("utf-16")),
    "wide, and little of it": (
        "items in a row, as text", b"narrow " * 99 + repr(ROW).encode("utf-32-be") + b"narrow " * 99
    ),
    "a record's list": (
        "items in a row, as text", as_flower_object(MetricRecord({"losses": HISTORY}))
    ),
    "ones and zeros": (
        "items as ones and zeros", np.isin(np.arange(90), HISTORY).astype(np.float32).tobytes()
    ),
    "int32 in base64": (
        "items in a row, as <i4", base64.b64encode(np.array(ROW, np.int32).tobytes())
    ),
    **{
        f"{kind} in an array": (
            f"items in a row, as {kind}",
            as_flower_object(ArrayRecord({"x": Array(np.array([1.5, *HISTORY, 2]).astype(kind))})),
        )
        for kind in ("<u1", "<i2", "<i4", "<i8", "<f4", "<f8")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_whatever_the_way_of_writing_it_is_found(name: str) -> None:
    canary, content = WRITTEN[name]
    assert canary in {found.canary for found in scanner().scan(b"\1 before " + content)} | {
        found.canary for found in scanner().scan(content)
    }


def test_what_is_no_leak_is_not_found() -> None:
    rng = np.random.default_rng(0)
    innocent = [
        rng.bytes(1 << 15),
        json.dumps([*range(200)]).encode(),
        json.dumps(HISTORY[:7]).encode(),
        np.zeros(1000).tobytes(),
        rng.integers(0, 81, 1 << 14).astype("<i4").tobytes(),
        archived(rng.bytes(1 << 12)),
        b"canary-user-1@example.org",
    ]
    assert [scanner().scan(each) for each in innocent] == [[]] * len(innocent)


def test_files_names_and_write_ahead_logs_are_searched(tmp_path: Path) -> None:
    (tmp_path / USER).touch()
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE object (content)")
        connection.execute("INSERT INTO object VALUES (?)", (gzip.compress(KEY),))
        connection.commit()
        found = scanner().scan(tmp_path)
    assert Finding("a user", f"the name of {USER}") in found
    assert Finding("a key", "state.db > a row > a compressed stream") in found


@pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")  # Flower's own
@pytest.mark.parametrize(
    ("record", "canary"),
    [
        (ConfigRecord({"reason": f"no such user {USER}"}), "a user"),
        (MetricRecord({"sizes": HISTORY}), "items in a row, as text"),
        (ArrayRecord({"x": Array(np.array(HISTORY, np.float32))}), "items in a row, as <f4"),
        (ConfigRecord({"reason": "no budget is left"}), None),
    ],
)
def test_a_message_in_the_superlinks_database(
    tmp_path: Path, record: Any, canary: str | None
) -> None:
    """Flower's own store, in a database of its own."""
    message = RecordDict({"meta": ConfigRecord({"site": "north", "round": 3}), "more": record})
    store = SqlObjectStore(f"sqlite:///{tmp_path / 'superlink.db'}")
    store.initialize()
    store.preregister(1, get_object_tree(message))
    for name, each in get_all_nested_objects(message).items():
        store.put(name, each.deflate())
    found = {each.canary for each in scanner().scan(tmp_path)}
    assert found == (set() if canary is None else {canary})


@pytest.fixture
def site(tmp_path: Path) -> ResidentSite:
    folder = csv_site(tmp_path)
    refresh_site(folder)
    return ResidentSite(folder)


def asked(site: ResidentSite) -> bytes:
    """The frame that a site answers to the first question of a run."""
    config = RunConfig(privacy=PrivacyConfig(mode="local"))
    content = encode_popularity_request(PopularityRequest("run", config.sha256()))
    head = RequestHead(message_type=POPULARITY_QUERY, group="0", run_config=config.to_flat())
    return site.answer(Request(head, content_to_bytes(content)))


def watch(site: ResidentSite) -> LeakScan:
    rows = site.data.interactions
    own = [rows.item[rows.user == user].tolist() for user in range(len(rows.user_ids))]
    names = [Canary.of("a pseudonym", each) for each in rows.user_ids]
    raw = [Canary.of("a pseudonym", bytes.fromhex(each)) for each in rows.user_ids]
    return LeakScan([*names, *raw], own)


def log_a_user(site: ResidentSite, content: RecordDict) -> None:
    answering.logger.warning("training of %s", site.data.users.user_ids[3])


def answer_a_user(site: ResidentSite, content: RecordDict) -> None:
    content["debug"] = ConfigRecord({"u": bytes.fromhex(site.data.users.user_ids[3])})


def answer_a_history(site: ResidentSite, content: RecordDict) -> None:
    rows = site.data.interactions
    content["debug"] = MetricRecord({"items": rows.item[rows.user == 3].tolist()})


LEAKS: dict[str, tuple[Callable[[ResidentSite, RecordDict], None], str, str]] = {
    "a user in the log": (log_a_user, "log", "a pseudonym"),
    "a user in an answer": (answer_a_user, "answer", "a pseudonym"),
    "a history in an answer": (answer_a_history, "answer", "items in a row, as text"),
}


def test_a_sites_answer_and_log_are_clean(
    site: ResidentSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert watch(site).scan(asked(site) + caplog.text.encode()) == []
    assert len(site.ledger.history()) == 1


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_planted_in_the_agent_is_found(
    name: str,
    site: ResidentSite,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    leak, channel, canary = LEAKS[name]
    honest = answering.HANDLERS[POPULARITY_QUERY]

    def leaking(agent: SiteAgent, config: RunConfig, request: RecordDict) -> RecordDict:
        content = honest(agent, config, request)
        leak(site, content)
        return content

    monkeypatch.setitem(answering.HANDLERS, POPULARITY_QUERY, leaking)  # type: ignore[arg-type]
    caplog.set_level(logging.DEBUG)
    answer = asked(site)
    seen = {"answer": stored(answer), "log": caplog.text.encode()}
    found = {kind: {each.canary for each in watch(site).scan(seen[kind])} for kind in seen}
    assert found == {**{kind: set() for kind in seen}, channel: {canary}}


def stored(frame: bytes) -> bytes:
    """The answer as Flower sends and keeps it."""
    content = parse_answer(frame_of(frame))
    assert isinstance(content, RecordDict)
    return b"".join(each.deflate() for each in get_all_nested_objects(content).values())


def test_a_record_that_was_cut_off_is_searched_as_bytes() -> None:
    whole = ConfigRecord({"kind": "sum_reply", "note": "nobody", "who": USER}).deflate()
    scanner = LeakScan([Canary.of("user", USER)])
    assert scanner.scan(whole, "object")
    cut = whole.replace(b"nobody", b"no\xff\xfeby")  # no UTF-8 any more: nobody can inflate it
    with pytest.raises(DecodeError):
        ConfigRecord.inflate(cut)
    assert scanner.scan(cut, "object")
