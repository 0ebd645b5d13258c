"""Certificates as a site's TLS stack sees them: a real handshake, in memory."""

from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import CertificateError
from server.certificates import Credentials, check_chain, check_host, issue, make_authority
from server.site_keys import read_node_key


def written(folder: Path, made: Credentials, name: str) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(made.certificate_pem())
    key.write_bytes(made.key_pem())
    return certificate, key


def shake_hands(ca: Path, certificate: Path, key: Path, host: str) -> None:
    """A TLS handshake of a client that trusts `ca` and asks for `host`."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=host)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for side in (one, other):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert done == {one, other}


@pytest.mark.parametrize("host", ["fedrec.example.org", "localhost", "127.0.0.1", "::1"])
def test_an_issued_certificate_is_good_for_its_host_and_no_other(host: str, tmp_path: Path) -> None:
    authority = make_authority("own")
    ca, _ = written(tmp_path, authority, "ca")
    pair = written(tmp_path, issue(authority, [host]), "server")
    shake_hands(ca, *pair, host)
    check_chain(*pair, ca, host)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch|not valid for"):
        shake_hands(ca, *pair, "other.example.org")
    with pytest.raises(CertificateError, match="does not verify for other"):
        check_chain(*pair, ca, "other.example.org")


def test_a_certificate_of_another_authority_is_no_good(tmp_path: Path) -> None:
    ca, _ = written(tmp_path, make_authority("own"), "ca")
    pair = written(tmp_path, issue(make_authority("own"), ["localhost"]), "server")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ca, *pair, "localhost")
    with pytest.raises(CertificateError, match="the CA that signed it"):
        check_chain(*pair, ca, "localhost")


def test_an_expired_certificate_says_when(tmp_path: Path) -> None:
    authority = make_authority("own")
    ca, _ = written(tmp_path, authority, "ca")
    then = datetime.now(UTC) - timedelta(days=30)
    pair = written(tmp_path, issue(authority, ["localhost"], now=then, days=20), "server")
    with pytest.raises(CertificateError, match=f"expired on {then + timedelta(days=20):%Y-%m-%d}"):
        check_chain(*pair, ca, "localhost")


def test_what_is_no_pair_or_no_pem_is_one_line(tmp_path: Path) -> None:
    authority = make_authority("own")
    ca, ca_key = written(tmp_path, authority, "ca")
    certificate, key = written(tmp_path, issue(authority, ["localhost"]), "server")
    with pytest.raises(CertificateError, match="is not the key of"):
        check_chain(certificate, ca_key, ca, "localhost")
    with pytest.raises(CertificateError, match="no PEM certificate"):
        check_chain(key, key, ca, "localhost")
    with pytest.raises(CertificateError, match="no private key"):
        check_chain(certificate, certificate, ca, "localhost")


@pytest.mark.parametrize("host", ["", "https://host", "host:9092", "a b", "exämple.org"])
def test_what_is_no_host_is_one_line(host: str) -> None:
    with pytest.raises(CertificateError, match="neither a DNS name nor an IP address"):
        check_host(host)


def test_a_node_key_with_a_compressed_point_is_refused_in_one_line(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    openssh = serialization.Encoding.OpenSSH
    kind, content = key.public_bytes(openssh, serialization.PublicFormat.OpenSSH).split()[:2]
    blob = base64.b64decode(content).replace(b"\x00\x00\x00\x61\x04", b"\x00\x00\x00\x61\x02")
    path = tmp_path / "node.pub"
    path.write_bytes(kind + b" " + base64.b64encode(blob) + b"\n")
    with pytest.raises(CertificateError, match="holds no public EC key"):
        read_node_key(path)
