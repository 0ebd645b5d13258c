"""The socket's server: one bad connection harms nobody else, and answers never cross."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.resident.protocol import PRELUDE, REQUEST, Request, encode_fault, parse_answer
from tests.client.resident.conftest import (
    connected,
    echo,
    echoes,
    read_reply,
    request_bytes,
    serving,
)

WHOLE = request_bytes("7")
hostile = st.one_of(
    st.binary(max_size=100),
    st.integers(0, len(WHOLE) - 1).map(lambda kept: WHOLE[:kept]),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(4097, 2**32 - 1), st.binary(max_size=50)).map(
        lambda t: PRELUDE.pack(b"FdR1", REQUEST, t[0], t[1]) + t[2]
    ),
    st.binary(max_size=100).map(lambda b: PRELUDE.pack(b"FdR1", REQUEST, len(b), 0) + b),
    st.binary(min_size=1, max_size=100).map(lambda b: WHOLE + b),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(hostile, min_size=1, max_size=3), st.integers(0, 10**9))
def test_no_bytes_stop_the_agent_or_give_one_the_answer_of_another(
    echo_socket: Path, contents: list[bytes], number: int
) -> None:
    opened = [connected(echo_socket) for _ in contents]
    try:
        for connection, content in zip(opened, contents, strict=True):
            connection.sendall(content)
        assert echoes(echo_socket, str(number))  # while the others hang
        for connection, content in zip(opened, contents, strict=True):
            connection.shutdown(socket.SHUT_WR)
            reply = parse_answer(read_reply(connection))
            if isinstance(reply, str):
                assert "\n" not in reply
            else:
                assert content.startswith(WHOLE)
                assert reply["echo"] == {"group": "7"}
    finally:
        for connection in opened:
            connection.close()
    assert echoes(echo_socket, str(number))


def test_a_huge_frame_is_told_why_and_the_next_one_is_served(echo_socket: Path) -> None:
    with connected(echo_socket) as connection:
        connection.sendall(PRELUDE.pack(b"FdR1", REQUEST, 10, 2**32 - 1))
        reply = parse_answer(read_reply(connection))
    assert reply == "the body of a frame has 4294967295 bytes, the limit is 4096"
    assert echoes(echo_socket, "1")


def test_a_silent_connection_is_ended_in_time(echo_socket: Path) -> None:
    with connected(echo_socket) as connection:
        assert "stopped after 0 bytes" in str(parse_answer(read_reply(connection)))


def test_many_clients_at_once_each_get_their_own_and_one_is_answered_at_a_time(
    short_folder: Path,
) -> None:
    inside = threading.Lock()

    def slow(request: Request) -> bytes:
        assert inside.acquire(blocking=False), "two requests were answered at once"
        time.sleep(0.01)
        inside.release()
        return echo(request)

    right: list[bool] = []
    path = short_folder / "many" / "a.sock"
    with serving(path, answer=slow, max_connections=32):
        clients = [
            threading.Thread(target=lambda n=n: right.append(echoes(path, str(n))))
            for n in range(20)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert right == [True] * 20


def test_one_connection_too_many_is_told_that_the_agent_is_busy(short_folder: Path) -> None:
    path = short_folder / "busy" / "a.sock"
    with serving(path, max_connections=1):
        with connected(path) as first, connected(path) as second:
            assert parse_answer(read_reply(second)) == "the site agent is busy; try again later"
            first.sendall(WHOLE)
            assert not isinstance(parse_answer(read_reply(first)), str)
        end = time.monotonic() + 10
        while time.monotonic() < end:  # the place of the first is free soon after its answer
            with connected(path) as third:
                third.sendall(WHOLE)
                if not isinstance(parse_answer(read_reply(third)), str):
                    return
    pytest.fail("the place never became free")


def test_a_request_whose_peer_has_gone_is_not_answered(short_folder: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    answered: list[str] = []

    def waiting(request: Request) -> bytes:
        begun.set()
        go_on.wait(10)
        answered.append(request.head.group)
        return echo(request)

    path = short_folder / "gone" / "a.sock"
    with serving(path, answer=waiting):
        with connected(path) as first:
            first.sendall(request_bytes("first"))
            begun.wait(10)
            with connected(path) as second:
                second.sendall(request_bytes("second"))
                time.sleep(0.2)  # it waits for its turn now
            go_on.set()
            read_reply(first)
        assert echoes(path, "third")
    assert answered == ["first", "third"]


OTHER_USER = """
import os, socket, sys
os.setgroups([]); os.setgid(54321); os.setuid(54321)
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(10)
    connection.connect(sys.argv[1])
    try:
        connection.sendall(bytes.fromhex(sys.argv[2]))
    except BrokenPipeError:  # it was refused before it had said anything
        pass
    sys.stdout.write(connection.recv(10_000).hex())
"""


def as_other_user(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OTHER_USER, str(path), WHOLE.hex()]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_another_user_is_refused_by_the_kernels_word_and_served_once_listed(
    short_folder: Path,
) -> None:
    if os.geteuid() != 0:
        # Only root can become another user: here the list is changed instead of the user.
        path = short_folder / "nobody" / "a.sock"
        with serving(path, allowed={54321}), connected(path) as connection:
            reply = parse_answer(read_reply(connection))
        assert f"user {os.geteuid()} may not ask" in str(reply)
        return
    path = short_folder / "other" / "a.sock"
    for allowed, served in (({0}, False), ({0, 54321}, True)):
        with serving(path, allowed=allowed):
            assert as_other_user(path).returncode != 0  # the file system's own refusal comes first
            path.chmod(0o666)
            path.parent.chmod(0o755)
            short_folder.chmod(0o755)
            done = as_other_user(path)
        path.parent.chmod(0o750)
        assert done.returncode == 0, done.stderr
        refusal = encode_fault(
            "user 54321 may not ask this site agent; "
            "its operator must list that user in relay_users of policy.toml"
        )
        assert (bytes.fromhex(done.stdout) == refusal) is not served
