"""What a site is told of the other end: real sockets, real TLS, real certificates."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from client.connection import Connection
from client.connection_check import reach
from common.errors import ConnectionFault
from server.certificates import Credentials, issue, make_authority
from tests.server.test_certificates import written

OK = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: {date}\r\n\r\n"


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on a free port that hands each connection to `answer`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    answer(connection)
                except OSError:
                    continue  # the client said no, as it should

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def over_tls(folder: Path, made: Credentials, said: str) -> Callable[[socket.socket], None]:
    """Answers `said` over TLS with the certificate `made`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*written(folder, made, "server"))

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(said.encode())

    return answer


def in_plain(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture(scope="module")
def authority() -> Credentials:
    return make_authority("own")


@pytest.fixture
def connect(tmp_path: Path, authority: Credentials) -> Callable[[int], Connection]:
    ca, _ = written(tmp_path, authority, "ca")
    return lambda port: Connection(superlink=f"localhost:{port}", ca=str(ca), node_key="unused")


def now(ahead_s: float = 0.0) -> str:
    return OK.format(date=format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s)))


def test_the_coordinator_is_found(
    tmp_path: Path, authority: Credentials, connect: Callable[[int], Connection]
) -> None:
    with server(over_tls(tmp_path, issue(authority, ["localhost"], days=40), now())) as port:
        found = reach(connect(port))
    assert found.days_left == 39
    assert abs(found.skew_s) < 5


MONTH = timedelta(days=30)
BAD_CERTIFICATES = {
    "has expired": lambda ca: issue(ca, ["localhost"], now=datetime.now(UTC) - MONTH, days=20),
    "is not valid yet": lambda ca: issue(ca, ["localhost"], now=datetime.now(UTC) + MONTH),
    "is for another name than localhost": lambda ca: issue(ca, ["fedrec.example.org"]),
    "is signed by none of": lambda _: issue(make_authority("another"), ["localhost"]),
}


@pytest.mark.parametrize("reason", BAD_CERTIFICATES)
def test_a_bad_certificate_is_one_line(
    reason: str, tmp_path: Path, authority: Credentials, connect: Callable[[int], Connection]
) -> None:
    made = BAD_CERTIFICATES[reason](authority)
    with (
        server(over_tls(tmp_path, made, now())) as port,
        pytest.raises(ConnectionFault, match=f"the certificate of localhost:{port} {reason}") as no,
    ):
        reach(connect(port))
    assert "\n" not in str(no.value)


def test_plain_http_is_one_line_and_hears_nothing(connect: Callable[[int], Connection]) -> None:
    with server(in_plain) as port, pytest.raises(ConnectionFault, match="without TLS"):
        reach(connect(port))


def test_nobody_there_is_one_line(connect: Callable[[int], Connection]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionFault, match=f"localhost:{port} is not reachable"):
        reach(connect(port))


@pytest.mark.parametrize(("ahead", "word"), [(400.0, "behind"), (-60.0, "ahead of")])
def test_a_skewed_clock_is_one_line(
    ahead: float,
    word: str,
    tmp_path: Path,
    authority: Credentials,
    connect: Callable[[int], Connection],
) -> None:
    made = issue(authority, ["localhost"])
    with (
        server(over_tls(tmp_path, made, now(ahead))) as port,
        pytest.raises(ConnectionFault, match=f"clock is .* s {word} localhost"),
    ):
        reach(connect(port))


@pytest.mark.parametrize("said", ["no HTTP at all\r\n", "HTTP/1.1 503 Away\r\n\r\n", ""])
def test_what_is_no_superlink_is_one_line(
    said: str, tmp_path: Path, authority: Credentials, connect: Callable[[int], Connection]
) -> None:
    made = issue(authority, ["localhost"])
    with (
        server(over_tls(tmp_path, made, said)) as port,
        pytest.raises(ConnectionFault, match="does not answer as a SuperLink|its SuperLink is not"),
    ):
        reach(connect(port))
