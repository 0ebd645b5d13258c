"""Real users of this machine, made by the code under test and removed afterwards."""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


def exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@contextmanager
def removed_afterwards(*users: str) -> Iterator[None]:
    """Users that are not there yet, and are gone after the block with their homes."""
    assert not [user for user in users if exists(user)]
    try:
        yield
    finally:
        for user in reversed(users):
            subprocess.run(["userdel", "--remove", user], capture_output=True, check=False)
        assert not [user for user in users if exists(user)]
