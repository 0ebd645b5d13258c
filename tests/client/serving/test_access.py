"""TLS, mutual TLS and tokens, with certificates of a real authority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client.serving import serving_pb2 as pb
from client.serving.access import TlsFiles, credentials, own_token, read_token
from client.serving.recommending import SiteRecommender
from client.serving.rpc import bearer, client
from client.serving.server import serving
from common.errors import CertificateError, ConfigError, SiteAgentError
from server.certificates import Credentials, issue, make_authority
from tests.client.serving.conftest import TOKEN

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


class Pki:
    """An authority, a service's certificate, and a client's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = make_authority("test")
        self.service = issue(self.authority, ["localhost", "127.0.0.1"])
        self.files = TlsFiles(
            self.write("service.crt", self.service.certificate_pem()),
            self.write("service.key", self.service.key_pem()),
            None,
        )

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path

    def channel(self, address: str, own: Credentials | None = None) -> grpc.Channel:
        shown = (None, None) if own is None else (own.key_pem(), own.certificate_pem())
        return grpc.secure_channel(
            address, grpc.ssl_channel_credentials(self.authority.certificate_pem(), *shown)
        )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def client_of(authority: Credentials) -> Credentials:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = x509.CertificateBuilder(
        authority.certificate.subject,
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")]),
        key.public_key(),
        x509.random_serial_number(),
        now - timedelta(hours=1),
        now + timedelta(hours=1),
    ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return Credentials(builder.sign(authority.key, hashes.SHA256()), key)


def site_of(channel: grpc.Channel, token: str | None = None) -> str:
    shown = () if token is None else bearer(token)
    return client(channel).ModelInfo(pb.ModelInfoRequest(), metadata=shown, timeout=10).site


def test_tls_with_a_token(recommender: SiteRecommender, pki: Pki) -> None:
    with serving(recommender, "localhost:0", token=TOKEN, tls=pki.files) as service:
        with pki.channel(service.address) as channel:
            assert site_of(channel, TOKEN) == "site-0000"
            with pytest.raises(grpc.RpcError) as caught:
                site_of(channel)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with grpc.insecure_channel(service.address) as plain, pytest.raises(grpc.RpcError):
            site_of(plain, TOKEN)


def test_mutual_tls_lets_in_the_authority_s_clients_alone(
    recommender: SiteRecommender, pki: Pki
) -> None:
    authority = pki.write("ca.crt", pki.authority.certificate_pem())
    files = pki.files._replace(client_authority=authority)
    stranger = client_of(make_authority("another"))
    with serving(recommender, "localhost:0", tls=files) as service:
        with pki.channel(service.address, client_of(pki.authority)) as channel:
            assert site_of(channel) == "site-0000"
        for own in (None, stranger, pki.service):  # a server's certificate is no client's
            with pki.channel(service.address, own) as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    site_of(channel)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_files_that_cannot_be_used_are_named(pki: Pki, tmp_path: Path) -> None:
    other = issue(pki.authority, ["other"], now=datetime.now(UTC) - timedelta(days=1))
    other_key = pki.write("other.key", other.key_pem())
    with pytest.raises(CertificateError, match="is not the key of"):
        credentials(pki.files._replace(key=other_key))
    with pytest.raises(CertificateError, match="holds no certificate"):
        credentials(pki.files._replace(certificate=pki.files.key))
    with pytest.raises(CertificateError, match="no unencrypted private key"):
        credentials(pki.files._replace(key=pki.files.certificate))
    open_key = pki.write("open.key", pki.service.key_pem())
    open_key.chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by others"):
        credentials(pki.files._replace(key=open_key))


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:1"])
def test_a_network_address_needs_tls(recommender: SiteRecommender, address: str) -> None:
    with (
        pytest.raises(ConfigError, match="open to a network"),
        serving(recommender, address, token=TOKEN),
    ):
        pass


def test_a_taken_address_is_said(recommender: SiteRecommender) -> None:
    with (
        serving(recommender, "127.0.0.1:0", token=TOKEN) as first,
        pytest.raises(SiteAgentError, match="cannot listen on"),
        serving(recommender, first.address, token=TOKEN),
    ):
        pass


def test_a_unix_socket_is_the_user_s_own(recommender: SiteRecommender, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(recommender, f"unix:{path}", token=TOKEN) as service:
        assert path.stat().st_mode & 0o077 == 0
        with grpc.insecure_channel(service.address) as channel:
            assert site_of(channel, TOKEN) == "site-0000"
    assert not path.exists()


def test_the_token_is_made_once_and_must_be_private(tmp_path: Path) -> None:
    token = own_token(tmp_path)
    assert len(token) == 64
    assert own_token(tmp_path) == token
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(ConfigError, match="may be read by others"):
        own_token(tmp_path)
    short = tmp_path / "short"
    short.write_text("secret")
    short.chmod(0o600)
    with pytest.raises(ConfigError, match="holds no token"):
        read_token(short)
