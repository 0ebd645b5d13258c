"""What a site keeps of its open rounds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from client import sum_store
from client.sum_store import OpenRound, SumStore
from common.errors import LedgerError, RunFolderError


@pytest.fixture
def store(tmp_path: Path) -> SumStore:
    store = SumStore(tmp_path)
    with store.locked():
        return store


def part(server_round: int, **changed: Any) -> OpenRound:
    fields = {"participants": ("a", "b"), "part": {"seed": "5ec7e7"}}
    return OpenRound(server_round, **(fields | changed))


def test_an_empty_store_knows_nothing(tmp_path: Path) -> None:
    store = SumStore(tmp_path)
    assert store.last_rounds() == {}
    assert store.open_round(b"run", 0) is None
    store.close(b"run", 0)
    assert list(tmp_path.iterdir()) == []


ANSWERS = st.dictionaries(
    st.text(max_size=9), st.tuples(st.text(max_size=9), st.text()), max_size=3
)


@given(
    run=st.binary(min_size=1, max_size=20),
    server_round=st.integers(0, 10**9),
    names=st.lists(st.text(min_size=1, max_size=9), max_size=4),
    answered=ANSWERS,
    delivery=st.text(max_size=9),
)
@settings(deadline=None, max_examples=40)
def test_a_part_comes_back_in_another_process(
    tmp_path_factory: pytest.TempPathFactory, run: bytes, server_round: int, names: list[str],
    answered: dict[str, tuple[str, str]], delivery: str,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("site")
    kept = part(server_round, participants=tuple(names), answered=answered, delivery=delivery)
    store = SumStore(folder)
    with store.locked():
        store.keep(run, kept)
    again = SumStore(folder)
    assert again.open_round(run, server_round) == kept
    assert again.open_round(run, server_round + 1) is None
    assert again.open_round(run + b".", server_round) is None
    assert again.last_rounds() == {run: server_round}


def test_the_last_round_outlives_its_secrets(store: SumStore, tmp_path: Path) -> None:
    store.keep(b"run", part(3))
    store.keep(b"other", part(7))
    store.close(b"run", 3)
    assert store.open_round(b"run", 3) is None
    assert store.last_rounds() == {b"run": 3, b"other": 7}
    assert store.open_round(b"other", 7) == part(7)
    store.close(b"other", 6)
    assert store.open_round(b"other", 7) == part(7)
    store.keep(b"other", part(8, part={}))
    assert "5ec7e7" not in (tmp_path / "secagg" / "rounds.json").read_text()


def test_the_oldest_runs_are_forgotten(store: SumStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sum_store, "_RUNS_KEPT", 3)
    for run in (b"1", b"2", b"3", b"1", b"4"):
        store.keep(run, part(1))
    assert set(store.last_rounds()) == {b"3", b"1", b"4"}
    assert store.open_round(b"2", 1) is None


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "secagg").write_text("a file where the folder should be")
    with pytest.raises(RunFolderError, match="check the path"), SumStore(tmp_path).locked():
        raise AssertionError("it was not locked")


def test_a_failed_write_leaves_the_state_before(
    store: SumStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keep(b"run", part(1))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(RunFolderError, match="free some space"):
            store.keep(b"run", part(2))
    assert store.open_round(b"run", 1) == part(1)


def test_any_changed_byte_is_damage(store: SumStore, tmp_path: Path) -> None:
    store.keep(b"run", part(1, part={}))
    path = tmp_path / "secagg" / "rounds.json"
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(LedgerError, match="damaged"):
            store.open_round(b"run", 1)
    path.write_bytes(content)
    assert store.open_round(b"run", 1) is not None


class StoreLife(RuleBasedStateMachine):
    """The store against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = SumStore(Path(self.folder.name))
        with self.store.locked():
            self.open: dict[bytes, int] = {}
            self.last: dict[bytes, int] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(run=st.sampled_from([b"a", b"b"]), server_round=st.integers(0, 3))
    def keep(self, run: bytes, server_round: int) -> None:
        self.store.keep(run, part(server_round))
        self.open[run] = self.last[run] = server_round

    @rule(run=st.sampled_from([b"a", b"b"]), server_round=st.integers(0, 3))
    def close(self, run: bytes, server_round: int) -> None:
        self.store.close(run, server_round)
        if self.open.get(run) == server_round:
            del self.open[run]

    @invariant()
    def it_says_the_same(self) -> None:
        assert self.store.last_rounds() == self.last
        for run in (b"a", b"b"):
            for server_round in range(4):
                is_open = self.store.open_round(run, server_round) is not None
                assert is_open is (self.open.get(run) == server_round)


StoreLife.TestCase.settings = settings(max_examples=10, stateful_step_count=10, deadline=None)
TestStoreLife = StoreLife.TestCase
