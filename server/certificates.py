"""TLS certificates of a coordinator: an authority of its own, server certificates, checks.

Keys are ECDSA P-256. Everything that is written here can be checked by a third party with
`openssl verify`; what an operator brings is checked in the way a site will check it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from common.atomic_files import file_errors
from common.errors import CertificateError

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
_SKEW = timedelta(hours=1)
"""A site whose clock is a little behind can still connect on the first day."""


class Credentials(NamedTuple):
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key as PEM, not encrypted: the server starts without a person."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def make_authority(name: str, now: datetime | None = None) -> Credentials:
    """A certificate authority that may sign server certificates and no other authority.

    Args:
        name: its common name.
        now: moment of issue; None: now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_named(name), _named(name), key, now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Credentials(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: Credentials,
    hosts: Sequence[str],
    *,
    now: datetime | None = None,
    days: int = SERVER_DAYS,
) -> Credentials:
    """A server certificate for `hosts`.

    Args:
        authority: who signs.
        hosts: names or IP addresses; the first is the common name too.
        now: moment of issue; None: now.
        days: that it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_named(hosts[0]), authority.certificate.subject, key, now, days)
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_id, critical=False)
    )
    return Credentials(builder.sign(authority.key, hashes.SHA256()), key)


def check_chain(certificate_file: Path, key_file: Path, ca_file: Path, host: str) -> None:
    """Checks what an operator brings, as a site will: chain, name, time, and the key.

    Args:
        certificate_file: the server's certificate first, then what lies between it and the CA.
        key_file: its private key, PEM, not encrypted.
        ca_file: the certificates that the sites are to trust.
        host: the name or address that the sites will ask for.

    Raises:
        CertificateError: with the one reason.
        RunFolderError: a file cannot be read.
    """
    chain, trusted = read_certificates(certificate_file), read_certificates(ca_file)
    public = (
        chain[0]
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    if _public_der(_read_key(key_file)) != public:
        raise CertificateError(
            f"{key_file} is not the key of {certificate_file}; give the pair that belongs together"
        )
    now, end = datetime.now(UTC), chain[0].not_valid_after_utc
    if end < now:
        raise CertificateError(
            f"{certificate_file} expired on {end:%Y-%m-%d}; renew it and give the new one"
        )
    verifier = PolicyBuilder().store(Store(trusted)).time(now).build_server_verifier(_subject(host))
    try:
        verifier.verify(chain[0], chain[1:])
    except VerificationError as error:
        raise CertificateError(
            f"{certificate_file} does not verify for {host} with {ca_file} ({error}); "
            "give a certificate for that name and the CA that signed it"
        ) from error


def read_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates in a PEM file.

    Raises:
        CertificateError: there is none.
        RunFolderError: it cannot be read.
    """
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise CertificateError(f"{path} holds no PEM certificate; check the file") from error


def read_authority(certificate_file: Path, key_file: Path) -> Credentials:
    """An authority as `make_authority` made it and the folder keeps it.

    Raises:
        CertificateError: the files hold none.
        RunFolderError: a file cannot be read.
    """
    certificate, key = read_certificates(certificate_file)[0], _read_key(key_file)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{key_file} is no EC key; restore it from a backup")
    return Credentials(certificate, key)


def check_host(host: str) -> str:
    """`host` as a certificate can name it.

    Raises:
        CertificateError: it is neither a DNS name nor an IP address.
    """
    try:
        _general_name(host)
        _subject(host)
    except ValueError as error:
        raise CertificateError(
            f"--host {host!a} is neither a DNS name nor an IP address; "
            "give the name that the sites will connect to, without scheme or port"
        ) from error
    return host


def _read_key(path: Path) -> PrivateKeyTypes:
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        return serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(
            f"{path} holds no private key in PEM without a password; check the file"
        ) from error


def _public_der(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime | None,
    days: int,
) -> x509.CertificateBuilder:
    start = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _SKEW)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _general_name(host: str) -> x509.GeneralName:
    address = _address(host)
    return x509.DNSName(host) if address is None else x509.IPAddress(address)


def _subject(host: str) -> x509.verification.Subject:
    address = _address(host)
    if address is not None:
        return x509.IPAddress(address)
    if not all(part.replace("-", "").isalnum() for part in host.split(".")):
        raise ValueError(host)
    return x509.DNSName(host)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
