"""Where the agent listens: modes, locks, and what another agent left."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from client.resident.socket_file import default_socket, listening_socket, only_agent
from common.errors import SiteAgentError


def test_socket_and_folder_are_closed_to_others_whatever_the_umask(short_folder: Path) -> None:
    path = short_folder / "modes" / "a.sock"
    earlier = os.umask(0)
    try:
        with listening_socket(path, None):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    finally:
        os.umask(earlier)
    assert not path.exists()


def test_the_group_may_be_chosen_and_must_be_there(short_folder: Path) -> None:
    import grp

    group = grp.getgrgid(os.getegid()).gr_name
    path = short_folder / "group" / "a.sock"
    with listening_socket(path, group):
        assert path.stat().st_gid == os.getegid()
    with pytest.raises(SiteAgentError, match="not on this machine"), listening_socket(path, "n o"):
        pass


def test_a_folder_that_others_may_write_to_is_refused(short_folder: Path) -> None:
    folder = short_folder / "open"
    folder.mkdir()
    for mode in (0o777, 0o770, 0o755):
        folder.chmod(mode)
        with (
            pytest.raises(SiteAgentError, match=f"got mode {mode:04o}") as fault,
            listening_socket(folder / "a.sock", None),
        ):
            pass
        assert "\n" not in str(fault.value)


def test_the_socket_of_a_dead_agent_is_replaced(short_folder: Path) -> None:
    path = short_folder / "stale" / "a.sock"
    path.parent.mkdir(mode=0o750)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with listening_socket(path, None), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_second_agent_is_refused_and_the_first_one_still_listens(short_folder: Path) -> None:
    path = short_folder / "two" / "a.sock"
    with listening_socket(path, None):
        for _ in range(2):
            with (
                pytest.raises(SiteAgentError, match=f"process {os.getpid()}") as fault,
                listening_socket(path, None),
            ):
                pass
            assert "\n" not in str(fault.value)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_what_is_not_an_agents_is_left_alone(short_folder: Path) -> None:
    folder = short_folder / "foreign"
    folder.mkdir(mode=0o750)
    file = folder / "file.sock"
    file.write_text("mine")
    with pytest.raises(SiteAgentError, match="is no socket"), listening_socket(file, None):
        pass
    assert file.read_text() == "mine"
    other = folder / "other.sock"
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(other))
        foreign.listen()
        with (
            pytest.raises(SiteAgentError, match="another process listens"),
            listening_socket(other, None),
        ):
            pass
    assert other.exists()


def test_a_path_that_no_socket_can_have_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100)
    with pytest.raises(SiteAgentError, match="100 bytes"), listening_socket(path, None):
        pass


def test_a_lock_is_free_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            only_agent(tmp_path / "lock", "site"),
            pytest.raises(SiteAgentError, match="served by another agent"),
            only_agent(tmp_path / "lock", "site"),
        ):
            pass


def test_the_default_place_names_the_site_and_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("FEDREC_STATE", str(tmp_path))
    assert default_socket("../a/b") == tmp_path / "run" / ".._a_b.sock"
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/fedrec:/run/other")
    assert default_socket("north") == Path("/run/fedrec/north.sock")
