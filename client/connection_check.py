"""Can this site reach its coordinator, and is it the coordinator? One line for each fault."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import httpx
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.connection import Connection, load_node_key, read_connection
from common.atomic_files import file_errors
from common.errors import ConnectionFault

CONNECT_S = 10.0
SOON_DAYS = 30
MAX_SKEW_S = 5.0
"""Flower takes no signature from a clock that is further ahead."""
_HEARTBEAT_S = 10.0

# OpenSSL's verification codes (x509_vfy.h).
_EXPIRED, _NOT_YET = 10, 9
_WRONG_NAME = frozenset({62, 63, 64})
_UNKNOWN_CA = frozenset({2, 18, 19, 20, 21})
_PLAIN_ANSWERS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})


class Reached(NamedTuple):
    """What was found at the other end.

    Attributes:
        days_left: until the certificate expires.
        skew_s: seconds that this machine's clock is ahead of the coordinator's.
    """

    days_left: int
    skew_s: float


def connection_lines(site: Path) -> list[str]:
    """`check_connection` of the site in a folder; nothing where it has no connection yet."""
    connection = read_connection(site)
    return [] if connection is None else check_connection(connection)


def check_connection(connection: Connection) -> list[str]:
    """Connects, verifies the certificate, compares clocks, and shows the node's key.

    Returns:
        What was proven, one line each.

    Raises:
        ConnectionFault: in one line, why the site cannot join.
        CertificateError: CA or key at this site cannot be used.
    """
    reached = reach(connection)
    known = _show_key(connection)
    lines = [
        f"{connection.superlink} is the coordinator: its certificate is signed by {connection.ca} "
        f"and valid for {reached.days_left} more days",
        f"clocks agree within {abs(reached.skew_s):.0f} s; {known}",
    ]
    if reached.days_left < SOON_DAYS:
        lines.append(f"soon: ask for a new certificate, {reached.days_left} days are left")
    return lines


def reach(connection: Connection) -> Reached:
    """The TLS part of `check_connection`; no secret of the site is used."""
    where = connection.superlink
    trust = _trust(connection)
    try:
        plain = socket.create_connection((connection.host, connection.port), timeout=CONNECT_S)
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        raise ConnectionFault(
            f"{where} is not reachable ({reason.lower()}); check address, firewall and that the "
            "coordinator's gate runs"
        ) from error
    with plain:
        try:
            tls = trust.wrap_socket(plain, server_hostname=connection.host)
        except ssl.SSLCertVerificationError as error:
            raise ConnectionFault(_certificate_fault(connection, error)) from error
        except (OSError, ValueError) as error:
            raise ConnectionFault(_handshake_fault(where, error)) from error
        with tls:
            certificate = tls.getpeercert() or {}
            date = _date(tls, where)
    end = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    now = datetime.now(UTC).timestamp()
    skew = 0.0 if date is None else now - date
    if skew > MAX_SKEW_S or skew < -300:
        raise ConnectionFault(
            f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} "
            f"{where}, which takes no signature of such a node; synchronise the clock (NTP)"
        )
    return Reached(int((end - now) // 86400), skew)


def _trust(connection: Connection) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with file_errors("read", Path(connection.ca)):
        content = Path(connection.ca).read_text(encoding="ascii", errors="replace")
    try:
        context.load_verify_locations(cadata=content)
    except ssl.SSLError as error:
        raise ConnectionFault(
            f"{connection.ca} holds no certificate; ask the coordinator for its ca.crt"
        ) from error
    return context


def _certificate_fault(connection: Connection, error: ssl.SSLCertVerificationError) -> str:
    where, code = connection.superlink, error.verify_code
    if code == _EXPIRED:
        return f"the certificate of {where} has expired; the coordinator must renew it"
    if code == _NOT_YET:
        return (
            f"the certificate of {where} is not valid yet; check this machine's clock, "
            "then ask the coordinator"
        )
    if code in _WRONG_NAME:
        return (
            f"the certificate of {where} is for another name than {connection.host}; "
            "use the name that the coordinator gave"
        )
    if code in _UNKNOWN_CA:
        return (
            f"the certificate of {where} is signed by none of {connection.ca}: it is not the "
            "coordinator, or its CA has changed; ask it, on another way, for its ca.crt"
        )
    return f"the certificate of {where} does not verify ({error.verify_message}); ask its operator"


def _handshake_fault(where: str, error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    if reason in _PLAIN_ANSWERS:
        return (
            f"{where} answers in plain text, without TLS; nothing was sent to it: check the port, "
            "and that the coordinator's gate listens there"
        )
    return f"{where} does not complete a TLS handshake ({reason}); check the port and the network"


def _date(tls: ssl.SSLSocket, where: str) -> float | None:
    """The other end's clock, by its answer to a harmless question."""
    asked = f"GET /health HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n\r\n"
    try:
        tls.sendall(asked.encode("ascii"))
        answer = http.client.HTTPResponse(tls)
        answer.begin()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionFault(
            f"{where} speaks TLS but does not answer as a SuperLink does ({error}); check the port"
        ) from error
    if answer.status != http.client.OK:
        raise ConnectionFault(
            f"{where} is there, but its SuperLink is not (HTTP {answer.status}); try again later"
        )
    return _seconds(answer.headers)


def _seconds(headers: Message) -> float | None:
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None  # nothing to compare with; Flower checks the clock again


def _show_key(connection: Connection) -> str:
    """Activates the node for a moment, which only a registered key can."""
    if not os.access(connection.node_key, os.R_OK) and Path(connection.node_key).exists():
        return "the node's key was not tried, since only the SuperNode's user may read it"
    key = load_node_key(connection)
    public = public_key_to_bytes(key.public_key())
    with FleetHttpClient.from_server_address(
        connection.superlink,
        False,
        Path(connection.ca).read_bytes(),
        [NodeAuthHttpInterceptor(key, key.public_key())],
    ) as client:
        try:
            node = client.ActivateNode(
                ActivateNodeRequest(public_key=public, heartbeat_interval=_HEARTBEAT_S)
            )
            client.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))
        except httpx.HTTPStatusError as error:
            return _known(connection, error)
        except httpx.HTTPError as error:
            raise ConnectionFault(
                f"{connection.superlink} broke off the connection ({error}); try again"
            ) from error
    return "the node's key is registered"


def _known(connection: Connection, error: httpx.HTTPStatusError) -> str:
    fault = FlowerError.from_json(error.response.text)
    if fault is not None and fault.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
        return "the node's key is listed, and its SuperNode is connected now or was a minute ago"
    reason = fault.message if fault is not None else f"HTTP {error.response.status_code}"
    raise ConnectionFault(f"{connection.superlink} does not let this node in: {reason}") from error
