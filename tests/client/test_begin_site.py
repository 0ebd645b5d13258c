"""``fedrec-site init``: everything a site needs, nothing overwritten, three commands in all."""

from __future__ import annotations

import configparser
import grp
import secrets
import shutil
import stat
import tomllib
from pathlib import Path

import pytest

from client import cli
from client.connection import read_connection
from client.policy import SitePolicy
from client.policy_file import read_policy
from client.resident.socket_file import default_socket
from client.site_data import load_site
from client.site_ledger import LEDGER_FILE
from client.source.settings_file import parse_source, read_source
from common.errors import ConfigError
from common.unit_hardening import HARDENING, WITHOUT_DEVICES
from server.certificates import make_authority
from tests.deployment import read_unit
from tests.own_process import Command, in_own_process
from tests.resident_agents import NO_MODEL, resident_agent
from tests.site_sources import CANARY, CSV_SOURCE, csv_site
from tests.system_users import removed_afterwards

TINY = (
    "--set=model.head_dim=4", "--set=model.lora_layers=1", "--set=model.lora_rank=2",
    "--set=model.lora_rows=4", "--set=model.head_items=0", "--set=privacy.mode=local",
)  # fmt: skip


@pytest.fixture
def fedrec_site(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)


def test_what_is_made(tmp_path: Path, fedrec_site: Command) -> None:
    site = tmp_path / "site"
    code, out, _ = fedrec_site("init", "--site", site, "--name", "north")
    assert code == 0
    for command in ("check", "run"):
        assert f"fedrec-site {command} --site {site}" in out
    code, identity, _ = fedrec_site("identity", "--site", site)
    assert code == 0
    assert identity.strip() in out
    modes = {path.name: path.stat().st_mode & 0o777 for path in site.rglob("*")}
    assert site.stat().st_mode & 0o777 == modes["keys"] == 0o700
    for name in ("identity.key", "fingerprint.key", "pseudonym.key", "source.toml", "policy.toml"):
        assert modes[name] == 0o600


def test_the_policy_is_safe_and_stated(tmp_path: Path, fedrec_site: Command) -> None:
    fedrec_site("init", "--site", tmp_path / "s", "--name", "north", "--relay-user", "nobody")
    policy = read_policy(tmp_path / "s" / "policy.toml")
    assert policy.allowed_modes == {"distributed", "local"}
    assert policy.relay_users == {"nobody"}
    assert policy.min_noise_multiplier == 0.5
    assert not policy.allow_exact_metrics
    assert not policy.allow_seeded_noise
    safe = SitePolicy()
    assert (policy.max_epsilon, policy.max_delta) == (safe.max_epsilon, safe.max_delta)
    fedrec_site("init", "--site", tmp_path / "t", "--name", "n", "--relay-user", "no-such-user")
    assert read_policy(tmp_path / "t" / "policy.toml").relay_users == frozenset()


@pytest.mark.parametrize("kind", ["csv", "parquet", "sql"])
def test_the_source_has_one_thing_to_fill_in_besides_names(
    kind: str, tmp_path: Path, fedrec_site: Command
) -> None:
    fedrec_site("init", "--site", tmp_path / "s", "--name", "north", "--source", kind)
    with pytest.raises(ConfigError) as caught:
        read_source(tmp_path / "s")
    assert [fault.split(" ")[0] for fault in caught.value.faults] == ["site.declared_units"]
    text = (tmp_path / "s" / "source.toml").read_text()
    commented = text.replace("declared_units = 0", "declared_units = 900")
    for line in ("# [users]", "# table", "# file", "# user_id", "# attributes", "# rating",
                 "# filters", "# late_s"):  # fmt: skip
        commented = commented.replace(f"\n{line}", f"\n{line[2:]}")
    settings = parse_source(tomllib.loads(commented))
    assert (settings.source.kind, settings.site.name) == (kind, "north")
    assert settings.users is not None


def test_units_have_real_paths_and_keep_their_hardening(
    tmp_path: Path, fedrec_site: Command
) -> None:
    site, out = tmp_path / "site", tmp_path / "units"
    fedrec_site("init", "--site", site, "--name", "north", "--out", out, "--user", "agent")
    units = {}
    for path in out.iterdir():
        text = path.read_text()
        assert "$" not in text
        if path.suffix == ".service":
            keeps_devices = path.name == "fedrec-site.service"  # one may be a GPU
            assert f"{HARDENING if keeps_devices else WITHOUT_DEVICES}\n" in text
            assert keeps_devices == ("PrivateDevices" not in text)
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read(path)
        units[path.name] = parser
    assert set(units) == {
        "fedrec-site.service",
        "fedrec-refresh.service",
        "fedrec-refresh.timer",
        "fedrec-monitor.service",
        "fedrec-serve.service",
    }
    serve = units["fedrec-serve.service"]["Service"]  # reads the site, writes feedback
    assert serve["ReadOnlyPaths"] == str(site)
    assert serve["ReadWritePaths"] == str(site / "serving")
    assert (site / "serving").stat().st_mode & 0o777 == 0o700
    assert serve["InaccessiblePaths"] == f"-{site / LEDGER_FILE}"
    assert (serve["IPAddressDeny"], serve["IPAddressAllow"]) == ("any", "localhost")
    assert serve["NoNewPrivileges"] == serve["PrivateTmp"] == serve["PrivateDevices"] == "yes"
    assert serve["ProtectSystem"] == "strict"
    assert serve["User"] == "agent"
    words = serve["ExecStart"].split()
    assert words[1:] == [
        *("serve", "--site", str(site), "--listen", "127.0.0.1:50061", "--metrics-port", "9097")
    ]
    monitor = units["fedrec-monitor.service"]["Service"]  # sees the agent's figures alone
    assert (monitor["InaccessiblePaths"], monitor["IPAddressDeny"]) == (str(site), "any")
    assert "--figures /run/fedrec/north.prom" in monitor["ExecStart"]
    for name in ("fedrec-site.service", "fedrec-refresh.service"):
        service = units[name]["Service"]
        assert service["User"] == "agent"
        assert Path(service["ExecStart"].split()[0]).is_file()
        assert f"--site {site}" in service["ExecStart"]
        assert service["ReadWritePaths"] == str(site)
        assert service["NoNewPrivileges"] == service["PrivateTmp"] == "yes"
        assert service["ProtectSystem"] == "strict"
    assert units["fedrec-site.service"]["Service"]["PrivateNetwork"] == "yes"
    assert "PrivateNetwork" not in units["fedrec-refresh.service"]["Service"]
    assert "--quiet" in units["fedrec-refresh.service"]["Service"]["ExecStart"]


def test_nothing_is_overwritten(tmp_path: Path, fedrec_site: Command) -> None:
    site = tmp_path / "site"
    fedrec_site("init", "--site", site, "--name", "north")
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    code, out, err = fedrec_site("init", "--site", site, "--name", "south")
    assert (code, out) == (2, "")
    assert "is a site already (source.toml is there), and init never overwrites" in err
    (site / "source.toml").unlink()  # an init that was cut short
    assert fedrec_site("init", "--site", site, "--name", "north")[0] == 0
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before


def test_all_faults_of_the_options_at_once(tmp_path: Path, fedrec_site: Command) -> None:
    code, _, err = fedrec_site(
        "init", "--site", tmp_path / "a b", "--name", "no rth", "--source", "xml", "--user", "R$"
    )
    assert code == 2
    assert "configuration has 4 faults" in err
    assert not (tmp_path / "a b").exists()


@pytest.mark.slow
def test_init_check_run(tmp_path: Path, fedrec_site: Command) -> None:
    """The three commands, with the file filled in between; the check needs no refresh before."""
    site = csv_site(tmp_path)
    code, out, err = fedrec_site("check", "--site", site, *TINY)
    assert code == 0, err
    assert "customer (string) is user_id" in out
    assert "would read all rows" in out
    assert "noise has" in out
    for private in ("canary-user", "canary-sex", "canary-folder", "canary-orders", "canary note"):
        assert private not in out + err
    assert not (site / "site.json").exists()
    socket = tmp_path / "a.sock"
    with resident_agent(site, socket, *NO_MODEL) as agent:
        assert "serving site north (20 declared units)" in agent.log.read_text()
        assert "canary-user" not in agent.log.read_text()
        assert "canary-sex" not in agent.log.read_text()
        assert agent.end() == 0
    assert len(load_site(site).users.user_ids) == 12
    code, out, _ = fedrec_site("check", "--site", site, *TINY)
    assert code == 0
    (site / "source.toml").write_text(CSV_SOURCE.replace("canary-orders", "canary-other"))
    code, out, err = fedrec_site("check", "--site", site, *TINY)
    assert (code, out) == (2, "")
    assert "interactions: its file does not exist" in err
    assert CANARY not in err
    shutil.rmtree(site)


def test_one_init_also_connects(tmp_path: Path, fedrec_site: Command) -> None:
    site, ca = tmp_path / "site", tmp_path / "ca.crt"
    ca.write_bytes(make_authority("fedrec").certificate_pem())
    signer = "ab" * 32
    code, out, err = fedrec_site(
        *("init", "--site", site, "--name", "north", "--superlink", "fedrec.example.org:9092"),
        *("--ca", ca, "--signer", signer),
    )
    assert code == 0, err
    assert str(site / "node" / "node.pub") in out
    assert (site / "node" / "node.pub").read_text().startswith("ecdsa-sha2-nistp384 ")
    connection = read_connection(site)
    assert connection is not None
    assert connection.superlink == "fedrec.example.org:9092"
    command, _ = read_unit(site / "systemd" / "fedrec-supernode.service")
    assert command[command.index("--superlink") + 1] == "fedrec.example.org:9092"
    assert command[-1] == 'agent-socket="/run/fedrec/north.sock"'
    assert f'agent-socket="{default_socket("north")}"' in out  # by hand
    assert "Inaccessible" not in (site / "systemd" / "fedrec-supernode.service").read_text()
    assert read_policy(site / "policy.toml").code_signers == {signer}


def test_nothing_is_made_where_an_option_of_the_connection_is_wrong(
    tmp_path: Path, fedrec_site: Command
) -> None:
    site, ca = tmp_path / "site", tmp_path / "ca.crt"
    ca.write_bytes(make_authority("fedrec").certificate_pem())
    begin = ("init", "--site", site, "--name", "north")
    code, _, err = fedrec_site(*begin, "--superlink", "nowhere", "--ca", ca, "--signer", "abc")
    assert code == 2
    assert "--superlink 'nowhere' is no host:port" in err
    assert "--signer must be 64 hexadecimal digits" in err
    code, _, err = fedrec_site(*begin, "--ca", ca)
    assert code == 2
    assert "--superlink and --ca go together" in err
    ca.write_text("no certificate")
    code, _, err = fedrec_site(*begin, "--superlink", "h:1", "--ca", ca)
    assert code == 2
    assert "holds no PEM certificate" in err
    assert not site.exists()


def test_units_of_another_site_are_not_taken_over(tmp_path: Path, fedrec_site: Command) -> None:
    units = tmp_path / "units"
    assert fedrec_site("init", "--site", tmp_path / "a", "--name", "a", "--out", units)[0] == 0
    code, _, err = fedrec_site("init", "--site", tmp_path / "b", "--name", "b", "--out", units)
    assert code == 2
    assert "fedrec-site.service is there already, of another installation" in err
    assert not (tmp_path / "b").exists()


@pytest.mark.root
def test_root_s_one_command_makes_users_and_gives_them_their_folders(
    tmp_path: Path, fedrec_site: Command
) -> None:
    mark = secrets.token_hex(4)
    agent, relay = f"frd-a-{mark}", f"frd-r-{mark}"
    site, node, ca = tmp_path / "site", tmp_path / "node", tmp_path / "ca.crt"
    ca.write_bytes(make_authority("fedrec").certificate_pem())
    with removed_afterwards(agent, relay):
        code, out, err = fedrec_site(
            *("init", "--site", site, "--name", "north", "--system", "--out", tmp_path / "units"),
            *("--user", agent, "--relay-user", relay, "--node-folder", node),
            *("--superlink", "h:1", "--ca", ca),
        )
        assert code == 0, err
        assert f"sudo -u {agent} fedrec-site check --site {site}" in out
        assert "systemctl enable --now fedrec-site.service fedrec-supernode.service" in out
        assert {path.owner() for path in [site, *site.rglob("*")]} == {agent}
        assert {path.owner() for path in [node, *node.rglob("*")]} == {relay}
        assert stat.S_IMODE((node / "node.key").stat().st_mode) == 0o600
        assert agent in grp.getgrnam(relay).gr_mem
        assert stat.S_IMODE(Path(f"/var/lib/{agent}").stat().st_mode) == 0o700
        policy = read_policy(site / "policy.toml")
        assert policy.relay_users == {relay}
        assert policy.anchor == f"/var/lib/{agent}/anchors/north.jsonl"
        unit = (tmp_path / "units" / "fedrec-supernode.service").read_text()
        assert f"User={relay}\n" in unit
        assert "/run/fedrec/north.sock" in unit
        assert f"InaccessiblePaths={site}\n" in unit


def test_only_root_can_make_users(
    tmp_path: Path, fedrec_site: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    code, _, err = fedrec_site("init", "--site", tmp_path / "s", "--name", "n", "--system")
    assert code == 2
    assert "--system needs root; run this one command with sudo" in err
    assert not (tmp_path / "s").exists()
