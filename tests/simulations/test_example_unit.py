"""One real run with single examples as the unit: every record and every text must say so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from client import cli
from common.accounting import epsilon
from common.config import RunConfig
from common.privacy_events import event_from_dict
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.partition import write_site_folders
from simulations.simulate import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NOTE = "Example-level privacy is weaker than user-level privacy"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The run's folder, and that of its sites."""
    root = tmp_path_factory.mktemp("example-unit")
    config = RunConfig.model_validate(
        {
            "data": {"dataset": "synthetic", "sites": 2, "sites_folder": str(root / "sites")},
            "model": {
                "head_dim": 4,
                "head_items": 0,
                "lora_layers": 1,
                "lora_rank": 2,
                "lora_rows": 2,
            },
            "privacy": {
                "mode": "local",
                "unit": "example",
                "clipping": "update",
                "sample_rate": 0.05,
                "negatives_per_unit": 4,
                "target_delta": 1e-5,
            },
            "federation": {"rounds": 2, "local_steps": 2, "local_lr": 0.1},
            "evaluation": {"bootstrap_resamples": 200, "companions": ""},
        }
    )
    write_site_folders(load_dataset(config.data), config.data, root / "sites")
    folder = RunFolder.create(root / "run")
    folder.write_config(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDREC_CACHE", str(root / "cache"))
        simulate(config, folder, SilentListener())
    return root / "run", root / "sites"


def test_the_releases_and_the_ledgers_are_of_examples(folders: tuple[Path, Path]) -> None:
    folder = RunFolder.open(folders[0])
    releases = folder.read_releases()
    assert {record["unit"] for record in releases} == {"example"}
    for site in ("site-0000", "site-0001"):
        mine = [r for r in releases if r["site"] == site and r["event"] is not None]
        assert [r["kind"] for r in mine] == ["popularity", "update", "update"]
        assert [r["steps"] for r in mine] == [1, 1, 1]  # whole updates: one event a round
        total = epsilon([event_from_dict(r["event"]) for r in mine], 1e-5)
        assert total == pytest.approx(mine[-1]["epsilon_prv"])
        assert total <= 8
        exported = json.loads((folders[0] / "ledgers" / f"{site}.json").read_text())
        assert exported["unit"] == "example"
        manifest = json.loads((folders[1] / site / "site.json").read_text())
        assert mine[1]["divisor"] == pytest.approx(0.05 * manifest["declared_examples"])
        assert manifest["declared_examples"] > 3 * manifest["declared_units"]


def test_the_report_and_the_statement_name_the_unit(folders: tuple[Path, Path]) -> None:
    run, _ = folders
    data = json.loads((run / "report.json").read_text())
    assert (data["claim"]["status"], data["claim"]["unit"]) == ("private", "example")
    assert data["results"]["rows"][0]["name"] == "fedrec (local, ε=8 per example)"
    statement = (run / "PRIVACY.md").read_text()
    assert "| unit | example |" in statement
    for text in (statement, (run / "report.html").read_text()):
        assert NOTE in text
        assert "For every user" not in text


def test_the_sites_own_ledger_shows_the_unit(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = str(folders[1] / "site-0000")
    for command in ("show", "verify"):
        monkeypatch.setattr(sys, "argv", ["fedrec-site", "ledger", command, "--site", site])
        code: object = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = leaving.code or 0
        assert code == 0
        text = " ".join(capsys.readouterr().out.split())
        if command == "show":
            assert "per example, add or remove one" in text
            assert NOTE in text
