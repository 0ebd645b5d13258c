"""``fedrec-site`` on a real site's folder: its commands, its exit codes, one line on error."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from client import cli
from client.policy_file import read_policy
from client.site_data import load_site
from client.site_ledger import SiteLedger
from client.site_setup import ledger_of, policy_of
from common.config import DataConfig, RunConfig
from common.privacy_events import GaussianEvent
from common.site_folder import MANIFEST_FILE
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.own_process import Command, in_own_process

EVENT = GaussianEvent(4.0)


@pytest.fixture
def fedrec_site(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process: exit code, stdout, stderr."""

    return in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a real site."""
    (made,) = write_site_folders(
        synthetic_dataset(), DataConfig(dataset="synthetic", sites=1), tmp_path / "sites"
    )
    manifest = made / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"simulated": true', '"simulated": false'))
    return made


@pytest.fixture
def ledger(folder: Path) -> SiteLedger:
    """Its ledger, with two releases."""
    policy = policy_of(folder, RunConfig(), is_simulated=False)
    made = ledger_of(folder, load_site(folder), policy)
    opened = made.open()
    for server_round in (1, 2):
        opened.enforce(EVENT, 1e-4, 100)
        opened.charge(("run", server_round, "update"), EVENT, b"bytes", {"delta": 1e-4})
    return made


def test_show_states_the_total_with_all_that_it_needs(
    fedrec_site: Command, folder: Path, ledger: SiteLedger
) -> None:
    code, out, _ = fedrec_site("ledger", "show", "--site", folder, "--json")
    assert code == 0
    shown = json.loads(out)
    assert (shown["releases"], shown["tree_size"], shown["max_epsilon"]) == (2, 2, 8.0)
    assert shown["epsilon_prv"] == ledger.open().epsilon(1e-4)
    code, out, _ = fedrec_site("ledger", "show", "--site", folder)
    assert code == 0
    assert "per user, add or remove one" in " ".join(out.split())


def test_verify_recover_and_their_exit_codes(
    fedrec_site: Command, folder: Path, ledger: SiteLedger
) -> None:
    assert fedrec_site("ledger", "verify", "--site", folder)[0] == 0
    connection = sqlite3.connect(ledger.path)
    connection.executescript("DROP TRIGGER releases_no_delete; DELETE FROM releases WHERE seq = 1")
    connection.close()
    code, out, err = fedrec_site("ledger", "verify", "--site", folder, "--json")
    assert code == 2
    assert [fault["kind"] for fault in json.loads(out)["faults"]] == ["drop"]
    assert err.startswith("error: ledger ")
    assert err.count("\n") == 1
    code, out, _ = fedrec_site("ledger", "recover", "--site", folder)
    assert code == 0
    assert '"count": 2' in out
    assert fedrec_site("ledger", "verify", "--site", folder)[0] == 0
    code, out, _ = fedrec_site("ledger", "recover", "--site", folder, "--json")
    assert json.loads(out) == {"charged": None, "lost_checkpoints": 0}


def test_export_can_be_verified_against(
    fedrec_site: Command, folder: Path, ledger: SiteLedger, tmp_path: Path
) -> None:
    out = tmp_path / "north.json"
    assert fedrec_site("ledger", "export", "--site", folder, "--out", out)[0] == 0
    assert json.loads(fedrec_site("ledger", "export", "--site", folder)[1]) == json.loads(
        out.read_text()
    )
    assert fedrec_site("ledger", "verify", "--site", folder, "--against", out)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ledger", "show", "--site", "nowhere"], "no such site folder"),
        (["ledger", "verify"], "Missing option"),
        (["check", "--site", "nowhere", "--set", "x"], "section.key=value"),
    ],
)
def test_a_mistake_is_one_clear_message(
    fedrec_site: Command, arguments: list[str], said: str
) -> None:
    code, out, err = fedrec_site(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_a_site_without_a_ledger_is_told(fedrec_site: Command, folder: Path) -> None:
    for command in ("show", "verify", "export"):
        code, _, err = fedrec_site("ledger", command, "--site", folder)
        assert code == 2
        assert "there is no ledger" in err


def test_faults_of_the_policy_are_told(fedrec_site: Command, folder: Path) -> None:
    (folder / "policy.toml").write_text("max_epsilon = 0\nmax_epsilom = 1\n")
    code, _, err = fedrec_site("ledger", "show", "--site", folder)
    assert code == 2
    assert "configuration has 2 faults" in err
    assert "did you mean max_epsilon?" in err


@pytest.mark.slow
def test_check_proves_the_step_and_says_what_leaves(fedrec_site: Command, folder: Path) -> None:
    tiny = [
        "--set=model.head=bilinear", "--set=model.head_dim=4", "--set=model.lora_layers=1",
        "--set=model.lora_rank=2", "--set=model.lora_rows=4", "--set=model.head_items=0",
        "--set=privacy.mode=local",
    ]  # fmt: skip
    code, out, err = fedrec_site("check", "--site", folder, "--json", *tiny)
    assert code == 0, err
    report = json.loads(out)
    assert any("gradients of 3 units equal autograd's" in line for line in report["proven"])
    assert any("popularity counts, once" in line for line in report["would_leave"])
    assert "interactions, histories and ratings" in report["never_leaves"]
    code, _, err = fedrec_site("check", "--site", folder, "--set=privacy.mode=none")
    assert code == 2
    assert "operator must allow it by name" in err


def test_the_identity_is_a_line_for_the_peers_policy(
    fedrec_site: Command, folder: Path, ledger: SiteLedger, tmp_path: Path
) -> None:
    code, out, _ = fedrec_site("identity", "--site", folder)
    assert code == 0
    pinned = tmp_path / "policy.toml"
    pinned.write_text(f"[peers]\n{out}")
    assert read_policy(pinned).peers == {"site-0000": ledger.identity.public_key}
    shown = json.loads(fedrec_site("identity", "--site", folder, "--json")[1])
    assert shown == {"site": "site-0000", "identity": ledger.identity.public_key}


def test_a_real_site_without_pinned_peers_fails_the_check_of_a_secure_run(
    fedrec_site: Command, folder: Path
) -> None:
    (folder / "policy.toml").write_text('allowed_modes = ["distributed"]')
    code, _, err = fedrec_site("check", "--site", folder, "--set", "privacy.mode=distributed")
    assert code == 2
    assert "pins no peers" in err
    assert "[peers]" in err


def test_a_ledger_of_examples_says_so_wherever_it_is_shown(
    fedrec_site: Command, folder: Path
) -> None:
    (folder / "policy.toml").write_text('unit = "example"\n')
    policy = policy_of(folder, RunConfig(), is_simulated=False)
    made = ledger_of(folder, load_site(folder), policy)
    opened = made.open()
    opened.enforce(EVENT, 1e-4, 100)
    opened.charge(("run", 1, "update"), EVENT, b"bytes", {"delta": 1e-4})
    shown = json.loads(fedrec_site("ledger", "show", "--site", folder, "--json")[1])
    assert shown["unit"] == "example"
    assert "weaker than user-level" in shown["unit_note"]
    text = " ".join(fedrec_site("ledger", "show", "--site", folder)[1].split())
    assert "per example, add or remove one" in text
    assert "Example-level privacy is weaker than user-level privacy" in text
    assert fedrec_site("ledger", "verify", "--site", folder)[0] == 0
    (folder / "policy.toml").unlink()
    code, _, err = fedrec_site("ledger", "verify", "--site", folder)
    assert code == 2
    assert "charged per example, and cannot be charged per user" in err
    assert err.count("\n") == 1
