"""Who may ask: the agent's own user, and those that the policy lists."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from client.policy import SitePolicy
from client.policy_file import read_policy
from client.resident.peer_credentials import Peer, allowed_uids, check_peer, peer_of
from common.errors import ConfigError, PolicyRefusal


def test_the_kernel_says_who_is_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.geteuid(), os.getegid())


def test_users_are_listed_by_name_or_number(tmp_path: Path) -> None:
    name = pwd.getpwuid(os.geteuid()).pw_name
    (tmp_path / "policy.toml").write_text(f'relay_users = ["{name}", 54321]\n')
    policy = read_policy(tmp_path / "policy.toml")
    assert allowed_uids(policy.relay_users) == {os.geteuid(), 54321}
    assert allowed_uids(SitePolicy().relay_users) == {os.geteuid()}


def test_every_unknown_name_is_told() -> None:
    with pytest.raises(ConfigError) as fault:
        allowed_uids(["no-such-user", "54321", 7])
    assert len(fault.value.faults) == 2
    assert "no-such-user" in str(fault.value)


@pytest.mark.parametrize("value", ["[true]", "[-1]", "[1.5]", '[""]', '"root"', "[4294967295]"])
def test_a_list_of_anything_else_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "policy.toml").write_text(f"relay_users = {value}\n")
    with pytest.raises(ConfigError, match="relay_users"):
        read_policy(tmp_path / "policy.toml")


def test_root_is_no_exception() -> None:
    check_peer(Peer(1, 7, 7), {7})
    with pytest.raises(PolicyRefusal, match="user 0 may not ask"):
        check_peer(Peer(1, 0, 7), {7})
