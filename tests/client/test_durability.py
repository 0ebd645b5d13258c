"""A deployed site flushes every charge to the disk; only a simulated one goes without."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from client.durability import Durability, durability_of
from client.ledger_file import LedgerFile
from client.site_ledger import site_ledger
from common.privacy_events import GaussianEvent

EVENT = GaussianEvent(4.0)


def spend(folder: Path, *, is_simulated: bool) -> tuple[int, int]:
    """Opens a site's ledger, charges once; SQLite's `synchronous` that it was written with."""
    places = site_ledger(
        folder, ["u"], site="s", unit="user", is_simulated=is_simulated, anchor=folder / "anchor"
    )
    ledger = places.open()
    ledger.enforce(EVENT, 1e-4, 1e9)
    ledger.charge(("r", 1, "update"), EVENT, b"bytes", {"delta": 1e-4})
    with ledger._file.connection() as connection:
        return (
            int(connection.execute("PRAGMA synchronous").fetchone()[0]),
            len(ledger.history()),
        )


@pytest.mark.parametrize(("is_simulated", "synchronous"), [(False, 2), (True, 0)])
def test_only_a_simulated_site_goes_without_flushing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_simulated: bool, synchronous: int
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    assert spend(tmp_path, is_simulated=is_simulated) == (synchronous, 1)
    # Two keys, the anchor's two lines and its folder: what Python flushes beside SQLite.
    assert len(flushed) == (0 if is_simulated else 5)


def test_the_default_is_a_deployed_site() -> None:
    assert durability_of(is_simulated=False) is Durability.MACHINE
    assert LedgerFile(Path("x"))._durability is Durability.MACHINE


def test_what_a_killed_process_wrote_is_there_without_flushing(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        spend(tmp_path, is_simulated=True)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    places = site_ledger(
        tmp_path, ["u"], site="s", unit="user", is_simulated=True, anchor=tmp_path / "anchor"
    )
    assert places.verify() == []
    assert places.open().history() == (EVENT,)
    assert len((tmp_path / "anchor").read_text().splitlines()) == 2
    assert json.loads((tmp_path / "anchor").read_text().splitlines()[1])["tree_size"] == 1


def test_operations_inside_held_share_a_connection_and_it_is_closed(tmp_path: Path) -> None:
    spend(tmp_path, is_simulated=True)
    file = LedgerFile(tmp_path / "ledger.sqlite")
    with file.held():
        with file.connection() as first, file.connection() as second:
            assert first is second
        with file.held(), file.connection() as third:
            assert third is first
        assert first.execute("SELECT 1").fetchone()[0] == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")
    with file.connection() as fresh:
        assert fresh is not first


def test_another_thread_never_gets_the_held_connection(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    spend(tmp_path, is_simulated=True)
    file = LedgerFile(tmp_path / "ledger.sqlite")

    def rows() -> int:
        with file.held(), file.connection() as connection:
            return int(connection.execute("SELECT count(*) FROM releases").fetchone()[0])

    with file.held(), file.connection(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(rows).result() == 1
