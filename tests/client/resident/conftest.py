"""A server on a real socket whose site only echoes: the transport by itself."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, RecordDict

from client.resident.protocol import (
    PRELUDE,
    Frame,
    Limits,
    Request,
    RequestHead,
    content_from_bytes,
    encode_answer,
    encode_request,
    parse_answer,
    read_frame,
)
from client.resident.server import AgentServer
from client.resident.socket_file import listening_socket

SMALL = Limits(head=4096, body=4096, read_s=0.3, frame_s=1.0)


@pytest.fixture(scope="session")
def short_folder() -> Generator[Path]:
    """A folder whose path is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="frs-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def echo(request: Request) -> bytes:
    """Answers with the request's own group and bytes."""
    content = content_from_bytes(request.body)
    content["echo"] = ConfigRecord({"group": request.head.group})
    return encode_answer(content)


@contextmanager
def serving(path: Path, **options: object) -> Iterator[AgentServer]:
    """A server of `echo` (or `answer=`) on `path`, until the block ends."""
    given = {"answer": echo, "allowed": {os.geteuid()}, "limits": SMALL, **options}
    answer, allowed = given.pop("answer"), given.pop("allowed")
    with listening_socket(path, None) as listener:
        server = AgentServer(listener, answer, allowed, **given)  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts


@pytest.fixture(scope="session")
def echo_socket(short_folder: Path) -> Generator[Path]:
    """One echo server for all tests that do not change it."""
    path = short_folder / "echo" / "a.sock"
    with serving(path):
        yield path


def connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10.0)
    connection.connect(str(path))
    return connection


def read_reply(connection: socket.socket) -> Frame:
    return read_frame(connection, Limits(read_s=10.0))


def request_bytes(group: str, **records: ConfigRecord) -> bytes:
    head = RequestHead(message_type="anything.goes", group=group, run_config={"a.b": 1.0})
    return encode_request(head, RecordDict(records))


def echoes(path: Path, group: str) -> bool:
    """Whether an honest request on `path` gets its own answer."""
    with connected(path) as connection:
        connection.sendall(request_bytes(group, mark=ConfigRecord({"own": group})))
        answer = parse_answer(read_reply(connection))
    assert isinstance(answer, RecordDict), answer
    return answer["echo"] == {"group": group} and answer["mark"] == {"own": group}


def frame_of(content: bytes) -> Frame:
    """The one frame in `content`, as a reader finds it."""
    _, kind, head, body = PRELUDE.unpack(content[: PRELUDE.size])
    rest = content[PRELUDE.size :]
    assert len(rest) == head + body
    return Frame(kind, rest[:head], rest[head:])
