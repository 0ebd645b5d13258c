"""`fedrec-site connect`: key pair, CA and connection.toml."""

from __future__ import annotations

import json
import os
import pwd
import stat
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from flwr.cli.supernode.register import try_load_public_key
from flwr.supernode.cli.flower_supernode import (
    _parse_args_run_supernode,
    _try_setup_client_authentication,
)

from client.cli import main
from client.connection import load_node_key, read_connection, supernode_command, supernode_unit
from common.errors import ConfigError
from common.site_folder import MANIFEST_FILE, SiteManifest, write_manifest
from common.unit_hardening import WITHOUT_DEVICES
from server.certificates import make_authority
from server.site_keys import SiteKeys, read_node_key
from tests.own_process import Command, in_own_process


@pytest.fixture
def fedrec_site(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_own_process(main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "north"
    folder.mkdir()
    manifest = SiteManifest(site="north", declared_units=9, dataset="d", catalogue_sha256="0" * 64)
    write_manifest(folder / MANIFEST_FILE, manifest)
    (tmp_path / "ca.crt").write_bytes(make_authority("own").certificate_pem())
    return folder


def options(site: Path, superlink: str = "fedrec.example.org:9092") -> list[str | Path]:
    return ["connect", "--site", site, "--superlink", superlink, "--ca", site.parent / "ca.crt"]


def test_connect_makes_what_flower_reads(fedrec_site: Command, site: Path) -> None:
    code, out, err = fedrec_site(*options(site))
    assert code == 0, err
    node = site / "node"
    assert (node / "node.pub").read_text().strip() in out
    assert stat.S_IMODE((node / "node.key").stat().st_mode) == 0o600
    connection = read_connection(site)
    assert connection is not None
    assert (connection.host, connection.port) == ("fedrec.example.org", 9092)

    # Flower's own readers of both halves, and the gate's, agree on the key.
    command = supernode_command(connection, Path("/run/fedrec/north.sock"))
    parsed = _parse_args_run_supernode().parse_args(command[1:])
    assert not parsed.insecure
    pair = _try_setup_client_authentication(parsed)
    assert pair is not None
    assert pair[1] == load_node_key(connection).public_key()
    pem = try_load_public_key(node / "node.pub")
    assert pem == read_node_key(node / "node.pub")
    assert SiteKeys(node).site_of(pem) == "node"
    unit = (node / "fedrec-supernode.service").read_text()
    assert "InaccessiblePaths" not in unit  # its own key lies there
    apart = supernode_unit(
        connection.model_copy(update={"node_key": "/etc/fedrec/node/node.key"}), Path("s"), site
    )
    assert f"InaccessiblePaths={site}" in apart
    assert "FLWR_TELEMETRY_ENABLED=0" in unit
    assert f"{WITHOUT_DEVICES}\n" in unit
    # Flower starts its own processes by name; a service manager's PATH does not have them.
    assert f'Environment="PATH={Path(sys.executable).parent}:' in unit


def test_connect_never_overwrites(fedrec_site: Command, site: Path) -> None:
    assert fedrec_site(*options(site))[0] == 0
    before = (site / "node" / "node.key").read_bytes()
    code, out, err = fedrec_site(*options(site), "--json")
    assert (code, out) == (2, "")
    assert "is never overwritten; remove it" in err
    assert (site / "node" / "node.key").read_bytes() == before


def test_a_site_that_was_only_begun_connects_too(fedrec_site: Command, site: Path) -> None:
    (site / MANIFEST_FILE).unlink()
    code, _, err = fedrec_site(*options(site))
    assert code == 2
    assert "no such file" in err
    (site / "source.toml").write_text('[site]\nname = "south"\n')  # the rest is still to come
    code, out, err = fedrec_site(*options(site), "--json")
    assert code == 0, err
    assert json.loads(out)["site"] == "south"


def test_the_node_can_have_a_folder_of_its_own(fedrec_site: Command, site: Path) -> None:
    relay = site.parent / "relay"
    code, out, _ = fedrec_site(*options(site), "--node-folder", relay, "--json")
    assert code == 0
    assert json.loads(out)["node_public_key"] == str(relay / "node.pub")
    assert not (site / "node").exists()
    connection = read_connection(site)
    assert connection is not None
    assert connection.node_key == str(relay / "node.key")


@pytest.mark.parametrize("superlink", ["host", "https://host:1", "host:", "ho st:1"])
def test_a_bad_address_is_one_line_and_makes_nothing(
    superlink: str, fedrec_site: Command, site: Path
) -> None:
    code, _, err = fedrec_site(*options(site, superlink))
    assert code == 2
    assert "is no host:port" in err
    assert {path.name for path in site.iterdir()} == {MANIFEST_FILE}


def test_what_is_no_certificate_is_one_line(fedrec_site: Command, site: Path) -> None:
    (site.parent / "ca.crt").write_text("no certificate")
    code, _, err = fedrec_site(*options(site))
    assert code == 2
    assert "ask the coordinator for its ca.crt" in err


def test_a_broken_connection_file_names_its_faults(site: Path) -> None:
    assert read_connection(site) is None
    (site / "connection.toml").write_text('superlink = "x"\nca = ""\nnode_key = "k"\n')
    with pytest.raises(ConfigError, match="superlink in .*connection.toml"):
        read_connection(site)
    (site / "connection.toml").write_text("=")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_connection(site)


def test_a_node_s_key_is_renewed_in_place(fedrec_site: Command, site: Path) -> None:
    code, _, err = fedrec_site("connect", "--site", site, "--renew")
    assert code == 2
    assert "not connected yet; leave --renew out" in err
    assert fedrec_site(*options(site))[0] == 0
    node = site / "node"
    before, key = read_connection(site), (node / "node.key").read_bytes()
    code, out, _ = fedrec_site("connect", "--site", site, "--renew")
    assert code == 0
    assert (node / "node.pub").read_text().strip() in out
    assert "add-site north node.pub --replace" in out
    assert (node / "node.key").read_bytes() != key
    assert stat.S_IMODE((node / "node.key").stat().st_mode) == 0o600
    assert read_connection(site) == before
    public = load_node_key(before).public_key() if before else None
    assert public is not None
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    assert public.public_bytes(pem, form) == read_node_key(node / "node.pub")

    (site.parent / "ca.crt").write_bytes(make_authority("new").certificate_pem())
    code, out, _ = fedrec_site(*options(site, "other.example.org:1"), "--renew")
    assert code == 0
    found = read_connection(site)
    assert found is not None
    assert (found.host, (node / "ca.crt").read_bytes()) == (
        "other.example.org",
        (site.parent / "ca.crt").read_bytes(),
    )
    code, _, err = fedrec_site("connect", "--site", site, "--renew", "--superlink", "nowhere")
    assert code == 2
    assert "is no host:port" in err


@pytest.mark.root
def test_root_works_in_no_service_s_folder(fedrec_site: Command, site: Path) -> None:
    os.chown(site, pwd.getpwnam("nobody").pw_uid, -1)
    for command in (("identity",), ("refresh",), ("check",), ("ledger", "show"), ("run",)):
        code, out, err = fedrec_site(*command, "--site", site)
        assert (code, out) == (2, "")
        assert "is user nobody's, who could not read what root writes there" in err
        assert "sudo -u nobody" in err
    assert [path.name for path in site.iterdir()] == [MANIFEST_FILE]
    code, _, err = fedrec_site(*options(site))  # connect keeps the owner
    assert code == 0, err
    assert {path.owner() for path in site.rglob("*")} == {"nobody"}
