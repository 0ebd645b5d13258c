"""Who is at the other end of a Unix socket, by the kernel's word."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Collection
from typing import NamedTuple

from common.errors import ConfigError, PolicyRefusal

_UCRED = struct.Struct("3i")


class Peer(NamedTuple):
    """Process, user and group that connected, as they were at that moment."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """The peer's credentials; it cannot choose them.

    Raises:
        OSError: the connection is broken.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(raw))


def allowed_uids(relay_users: Collection[str | int]) -> frozenset[int]:
    """The agent's own user, and those that the policy lists by name or number.

    Raises:
        ConfigError: with every name that no user of this machine has.
    """
    found, faults = {os.geteuid()}, []
    for user in relay_users:
        try:
            found.add(user if isinstance(user, int) else pwd.getpwnam(user).pw_uid)
        except KeyError:
            faults.append(
                f"relay_users names {user!r}, which is no user of this machine; "
                "make that user, or correct policy.toml"
            )
    if faults:
        raise ConfigError(sorted(faults))
    return frozenset(found)


def check_peer(peer: Peer, allowed: Collection[int]) -> None:
    """Raises `PolicyRefusal` unless the peer's user may ask this site; root is no exception."""
    if peer.uid not in allowed:
        raise PolicyRefusal(
            f"user {peer.uid} may not ask this site agent; "
            "its operator must list that user in relay_users of policy.toml"
        )
