"""``fedrec-site init``: everything a site needs, nothing overwritten, three commands in all."""

from __future__ import annotations

import configparser
import shutil
import tomllib
from pathlib import Path

import pytest

from client import cli
from client.policy import SitePolicy
from client.policy_file import read_policy
from client.site_data import load_site
from client.source.settings_file import parse_source, read_source
from common.errors import ConfigError
from tests.own_process import Command, in_own_process
from tests.resident_agents import NO_MODEL, resident_agent
from tests.site_sources import CANARY, CSV_SOURCE, csv_site

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
        assert "$" not in path.read_text()
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read(path)
        units[path.name] = parser
    assert set(units) == {"fedrec-site.service", "fedrec-refresh.service", "fedrec-refresh.timer"}
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
