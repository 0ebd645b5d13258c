"""Who may ask: a bearer token, or clients' certificates, and where it may listen in plain text."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.atomic_files import file_errors, write_bytes
from common.errors import CertificateError, ConfigError

TOKEN_FILE = "token"
LEAST_TOKEN = 32
OPEN_METHODS = ("/grpc.health.v1.Health/",)
"""Health tells a load balancer whether to send anybody here, and nothing else."""


class TlsFiles(NamedTuple):
    """PEM files.

    Attributes:
        certificate: of the service, with what leads to its authority.
        key: its private key.
        client_authority: whose clients alone may ask (mutual TLS), or None.
    """

    certificate: Path
    key: Path
    client_authority: Path | None


def own_token(folder: Path) -> str:
    """The token in `folder`; it is made where there is none (mode 0600).

    Raises:
        ConfigError: others may read it, or it is too short.
        RunFolderError: the disk refuses.
    """
    path = folder / TOKEN_FILE
    if not path.exists():
        write_bytes(path, f"{secrets.token_hex(32)}\n".encode(), mode=0o600)
    return read_token(path)


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        ConfigError: others may read it, it is too short, or it has characters no header may have.
        RunFolderError: it cannot be read.
    """
    _refuse_if_open(path)
    with file_errors("read", path):
        token = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
        raise ConfigError([f"{path} holds no token: at least {LEAST_TOKEN} plain characters"])
    return token


class TokenNeeded(grpc.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Lets nobody ask who does not show the token."""

    def __init__(self, token: str, turned_away: Callable[[str], None]) -> None:
        """Wants ``authorization: Bearer TOKEN``; tells `turned_away` what others asked for."""
        self._turned_away = turned_away
        self._wanted = f"Bearer {token}".encode()
        self._refusal: Any = grpc.unary_unary_rpc_method_handler(_refuse)

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """Hands on who shows it."""
        shown = [
            value if isinstance(value, bytes) else value.encode()
            for name, value in handler_call_details.invocation_metadata
            if name == "authorization"
        ]
        is_open = handler_call_details.method.startswith(OPEN_METHODS)
        if is_open or (len(shown) == 1 and hmac.compare_digest(shown[0], self._wanted)):
            return continuation(handler_call_details)
        self._turned_away(handler_call_details.method)
        return self._refusal


def _refuse(_: bytes, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "the bearer token is missing or wrong")


def credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """The service's TLS, checked before anybody connects.

    Raises:
        CertificateError: a file is no certificate or key, they do not belong together, or others
            may read the key.
    """
    _refuse_if_open(files.key)
    certificate, key = _read(files.certificate), _read(files.key)
    try:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
    except ValueError as error:
        raise CertificateError(f"{files.certificate} holds no certificate (PEM)") from error
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{files.key} holds no unencrypted private key (PEM)") from error
    if private.public_key() != leaf.public_key():
        raise CertificateError(
            f"{files.key} is not the key of {files.certificate}; give the two that belong together"
        )
    authority = None if files.client_authority is None else _authority(files.client_authority)
    return grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=authority,
        require_client_auth=authority is not None,
    )


def check_plain_text(address: str) -> None:
    """Refuses to serve without TLS where others could listen in.

    Raises:
        ConfigError: the address is neither this machine's own nor a Unix socket.
    """
    if address.startswith("unix:"):
        return
    host = address.rpartition(":")[0].strip("[]")
    try:
        is_own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_own = False
    if not is_own:
        raise ConfigError(
            [f"--listen {address} is open to a network; give --tls-cert and --tls-key for it"]
        )


def _authority(path: Path) -> bytes:
    content = _read(path)
    try:
        x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise CertificateError(f"{path} holds no certificate (PEM)") from error
    return content


def _read(path: Path) -> bytes:
    with file_errors("read", path):
        return path.read_bytes()


def _refuse_if_open(path: Path) -> None:
    with file_errors("read", path):
        mode = path.stat().st_mode
    if os.name == "posix" and mode & 0o077:
        raise ConfigError([f"{path} may be read by others; chmod 600 {path}"])
