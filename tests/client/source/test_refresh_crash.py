"""A refresh that is killed, at every moment, leaves the old tables or the new, whole."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from client.site_data import load_site
from client.source.refresh import refresh_site
from tests.site_sources import ORDERS, csv_site, orders, snapshot, tables_of, write_csv

# Newer Pythons warn of a fork beside threads; the child uses none of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

TOUCHES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "sqlite3.connect", "shutil.")
"""Events of Python's audit hooks: every time that files are touched."""


def refresh_killed_at(folder: Path, moment: int) -> bool:
    """A refresh in a process of its own that kills itself at its `moment`-th touch of a file.

    Returns:
        Whether it lived to its end.
    """
    child = os.fork()
    if child == 0:
        left = [moment]

        def count(event: str, arguments: tuple[object, ...]) -> None:
            if event.startswith(TOUCHES) and str(folder) in str(arguments[:1]):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        status = 1
        try:
            refresh_site(folder)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


@pytest.mark.slow
def test_the_old_tables_or_the_new_and_nothing_between(tmp_path: Path) -> None:
    folder = csv_site(tmp_path)
    moments, seen = 0, set()
    refresh_site(folder)
    lived = False
    while not lived:
        moments += 1
        before = tables_of(folder)
        # Other data each time, so that old and new differ.
        rows = orders(60 + moments, seed=moments)
        write_csv(folder / ORDERS, rows)
        lived = refresh_killed_at(folder, moments)
        after = tables_of(folder)
        assert len(load_site(folder).users.user_ids) > 0
        if after == before:
            assert not lived
            seen.add("old")
        else:
            users = {row[0] for row in rows[1:]}
            assert len({row["user_id"] for row in after["interactions"]}) == len(users)
            pairs = {(row[0], row[1]) for row in rows[1:]}
            assert len(after["interactions"]) == len(pairs)
            seen.add("new" if lived else "new, though killed")
    assert moments > 20
    assert seen == {"old", "new, though killed", "new"}
    refresh_site(folder)
    left = sorted(path.name for path in (folder / "data").iterdir())
    assert len(left) == 2  # the new ones and those before; nothing that a crash left
    assert all(name.isdecimal() for name in left)


def test_a_first_refresh_that_is_killed_leaves_no_site(tmp_path: Path) -> None:
    folder = csv_site(tmp_path)
    assert not refresh_killed_at(folder, 9)
    assert not (folder / "site.json").exists()
    refresh_site(folder)
    assert sorted(path.name for path in (folder / "data").iterdir()) == ["000001"]
    assert len(snapshot(folder)) == 5


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    from client.source.versions import only_refresh
    from common.errors import DataError

    folder = csv_site(tmp_path)
    with only_refresh(folder), pytest.raises(DataError, match="another refresh of this site"):
        refresh_site(folder)


@pytest.mark.parametrize("file", ["data", "site.json"])
def test_a_disk_that_refuses_changes_nothing(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client.source import versions
    from common.errors import RunFolderError

    folder = csv_site(tmp_path)
    refresh_site(folder)
    before = snapshot(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "canary")

    if file == "data":
        monkeypatch.setattr(versions, "_flush", full)
    else:
        monkeypatch.setattr("common.atomic_files.os.fsync", full)
    with pytest.raises(RunFolderError, match="free some space") as caught:
        refresh_site(folder)
    assert "canary" not in str(caught.value)
    monkeypatch.undo()
    assert snapshot(folder) == before
