"""`fedrec-server init`: what it lays out, and what it refuses."""

from __future__ import annotations

import json
import secrets
import stat
import sys
from pathlib import Path

import pytest
import yaml
from flwr.cli.flower_config import read_superlink_connection

from common.bundle_hash import bundle_root, bundle_sha256, bundle_signatures, verified_signers
from common.config_loading import load_config
from common.unit_hardening import WITHOUT_DEVICES
from server.certificates import check_chain, issue, make_authority
from server.cli import main
from server.deployment_files import GATE_UNIT, SUPERLINK_UNIT
from tests.deployment import read_unit
from tests.own_process import Command, in_own_process
from tests.server.test_certificates import written
from tests.system_users import removed_afterwards


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_own_process(main, "fedrec-server", monkeypatch=monkeypatch, capsys=capsys)


def test_init_makes_a_folder_that_a_federation_starts_from(
    server: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "server"
    code, out, err = server("init", folder, "--host", "fedrec.example.org", "--sites", "7")
    assert code == 0, err
    assert "systemctl enable" in out
    assert "add-site" in out
    private = {path.name for path in folder.rglob("*.key")}
    assert private == {"ca.key", "server.key", "superlink.key", "signing.key"}
    for path in folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    config = load_config(scenario=folder / "run.toml")
    assert (config.data.sites, config.privacy.mode) == (7, "distributed")
    assert (config.evaluation.metrics, config.evaluation.lab) == ("none", False)

    command, environment = read_unit(folder / "systemd" / SUPERLINK_UNIT)
    assert "--enable-supernode-auth" in command
    assert command[command.index("--host") + 1] == "127.0.0.1"
    for option in ("--ssl-certfile", "--ssl-keyfile", "--ssl-ca-certfile"):
        assert Path(command[command.index(option) + 1]).is_file()
    assert Path(command[command.index("--database") + 1]).parent.is_dir()
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    # Flower starts its own processes by name; a service manager's PATH does not have them.
    assert environment["PATH"].startswith(f"{Path(sys.executable).parent}:")
    assert read_unit(folder / "systemd" / GATE_UNIT)[0][-2:] == ["gate", str(folder)]
    for unit in (SUPERLINK_UNIT, GATE_UNIT):
        assert f"{WITHOUT_DEVICES}\n" in (folder / "systemd" / unit).read_text()

    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    assert services["superlink"]["command"] == command
    assert services["superlink"]["environment"] == environment
    assert services["gate"]["network_mode"] == "service:superlink"

    monkeypatch.setenv("FLWR_HOME", str(folder / "flower"))
    connection = read_superlink_connection()  # Flower's own reader
    assert (connection.name, connection.address) == ("fedrec", "127.0.0.1:9091")
    assert Path(str(connection.root_certificates)).is_file()


def test_the_bundle_is_this_code_and_signed(server: Command, tmp_path: Path) -> None:
    code, out, _ = server("init", tmp_path / "server", "--host", "localhost", "--json")
    assert code == 0
    bundle = tmp_path / "server" / "app" / "fedrec"
    assert bundle_sha256(bundle) == bundle_sha256(bundle_root())
    signed = verified_signers(bundle_sha256(bundle), bundle_signatures(bundle))
    assert signed == {json.loads(out)["signer"]}


def test_a_second_init_is_one_line_and_changes_nothing(server: Command, tmp_path: Path) -> None:
    assert server("init", tmp_path / "server", "--host", "localhost")[0] == 0
    before = (tmp_path / "server" / "tls" / "ca.crt").read_bytes()
    code, out, err = server("init", tmp_path / "server", "--host", "localhost")
    assert (code, out) == (2, "")
    assert "init never overwrites" in err
    assert (tmp_path / "server" / "tls" / "ca.crt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["server"]


def test_an_own_certificate_is_checked_and_taken(server: Command, tmp_path: Path) -> None:
    authority = make_authority("a public one")
    ca, _ = written(tmp_path, authority, "ca")
    pair = written(tmp_path, issue(authority, ["fedrec.example.org"]), "given")
    options = ("--ca", ca, "--certificate", pair[0], "--key", pair[1])
    code, _, err = server("init", tmp_path / "server", "--host", "fedrec.example.org", *options)
    assert code == 0, err
    tls = tmp_path / "server" / "tls"
    assert (tls / "server.crt").read_bytes() == pair[0].read_bytes()
    assert (tls / "ca.crt").read_bytes() == ca.read_bytes()
    assert not (tls / "ca.key").exists()
    code, _, err = server("init", tmp_path / "other", "--host", "other.example.org", *options)
    assert code == 2
    assert "does not verify for other.example.org" in err
    assert not (tmp_path / "other").exists()


def test_a_renewed_certificate_is_of_the_same_authority(server: Command, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    assert server("init", folder, "--host", "localhost")[0] == 0
    tls = folder / "tls"
    before, ca = (tls / "server.crt").read_bytes(), (tls / "ca.crt").read_bytes()
    code, out, _ = server("renew", folder)
    assert code == 0
    assert "restart the gate" in out
    assert (tls / "server.crt").read_bytes() != before
    assert (tls / "ca.crt").read_bytes() == ca
    assert stat.S_IMODE((tls / "server.key").stat().st_mode) == 0o600
    check_chain(tls / "server.crt", tls / "server.key", tls / "ca.crt", "localhost")
    code, out, _ = server("renew", folder, "--new-authority")
    assert code == 0
    assert "give every site the new" in out
    assert (tls / "ca.crt").read_bytes() != ca
    check_chain(tls / "server.crt", tls / "server.key", tls / "ca.crt", "localhost")
    (tls / "ca.key").unlink()
    code, _, err = server("renew", folder)
    assert code == 2
    assert "no authority of its own" in err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--host", "https://x"), "neither a DNS name nor an IP address"),
        (("--host", "x", "--certificate", "f"), "need --ca FILE"),
        (("--host", "x", "--ca", "f"), "needs --certificate and --key"),
        (("--host", "x", "--set", "privacy.mode=loud"), "privacy.mode"),
        (("--host", "x", "--port", "70000"), "70000"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(
    options: tuple[str, ...], reason: str, server: Command, tmp_path: Path
) -> None:
    code, out, err = server("init", tmp_path / "server", *options)
    assert (code, out) == (2, "")
    assert reason in err
    assert not list(tmp_path.iterdir())


def test_add_site_wants_a_server_a_name_and_a_key(server: Command, tmp_path: Path) -> None:
    (tmp_path / "no.pub").write_text("ssh-ed25519 AAAA")
    code, _, err = server("add-site", "north", tmp_path / "no.pub", "--folder", tmp_path)
    assert code == 2
    assert "no server's folder" in err
    assert server("init", tmp_path / "server", "--host", "localhost")[0] == 0
    code, _, err = server("add-site", "north", tmp_path / "no.pub", "--folder", tmp_path / "server")
    assert code == 2
    assert "no public EC key" in err


def test_resume_names_what_is_wrong(server: Command, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    assert server("init", folder, "--host", "fedrec.example.org")[0] == 0
    code, _, err = server("resume", tmp_path / "run", "--folder", folder)
    assert code == 2
    assert "is not a run" in err
    code, _, err = server("resume", tmp_path / "run", "--folder", tmp_path / "other")
    assert code == 2
    assert "fedrec-server init" in err


@pytest.mark.root
def test_root_s_one_command_makes_the_user_and_installs_the_units(
    server: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units, folder = tmp_path / "units", tmp_path / "server"
    units.mkdir()
    user = f"frd-s-{secrets.token_hex(4)}"
    monkeypatch.setattr("server.server_init.UNIT_FOLDER", units)
    monkeypatch.setattr("server.server_init.SERVER_USER", user)
    monkeypatch.setattr("server.deployment_files.SERVER_USER", user)
    with removed_afterwards(user):
        code, out, err = server("init", folder, "--host", "h", "--system")
        assert code == 0, err
        assert {path.owner() for path in [folder, *folder.rglob("*")]} == {user}
        assert {path.name for path in units.iterdir()} == {
            path.name for path in (folder / "systemd").iterdir()
        }
        assert f"sudo -u {user} fedrec-server add-site" in out
        assert out == (folder / "START.md").read_text()
        assert "cp " not in out
        code, _, err = server("init", tmp_path / "second", "--host", "h", "--system")
        assert code == 2
        assert "is there already, of another installation" in err
        assert not (tmp_path / "second").exists()
