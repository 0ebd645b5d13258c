"""An export on the real base weights: PEFT loads it, a site installs it, scores are the run's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from peft import PeftModel

from client.cli import main as site_main
from client.installed_adapter import current_folder
from client.policy import SitePolicy
from common.adapter_export import read_export, read_manifest, verify_export
from common.adapters import adapter_sha256
from common.base_weights import load_bert, resolve_base_weights
from common.config import DataConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import ConfigError, EvidenceError, ExportError, PolicyRefusal
from common.initial_adapter import initial_adapter
from common.loaded_recommender import loaded_recommender
from common.run_folder import RunFolder
from server.cli import main as server_main
from server.export import export_run
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.own_process import Command, in_own_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

CONFIG = RunConfig(
    data=DataConfig(dataset="synthetic", sites=2),
    model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=4),
    privacy=PrivacyConfig(mode="none"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run's records with an adapter that differs from the start everywhere."""
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "trained")
    folder.write_config(CONFIG)
    random = np.random.default_rng(0)
    adapter = {
        name: (array + 0.05 * random.standard_normal(array.shape)).astype(np.float32)
        for name, array in initial_adapter(CONFIG).items()
    }
    folder.write_adapter(adapter, {"run": "trained-1"})
    items = len(synthetic_dataset().catalogue)
    prior = random.standard_normal(items).astype(np.float32)
    folder.write_checkpoint({"item_prior": prior}, {"run": "trained-1"})
    record = {"run": "trained-1", "server_round": 3, "adapter_sha256": adapter_sha256(adapter)}
    folder.append_round(record)
    return folder


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "signing.key"
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def exported(run: RunFolder, key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "export"
    export_run(run.path, out, key_file)
    return out


@pytest.fixture
def export(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / "export"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    config = CONFIG.data.model_copy(update={"sites_folder": ""})
    return write_site_folders(synthetic_dataset(), config, tmp_path / "sites")[0]


@pytest.fixture
def fedrec_site(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_own_process(site_main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)


def signer_of(export: Path) -> str:
    return read_manifest(export).signer


def test_peft_loads_the_export_and_gets_the_run_s_model(exported: Path, run: RunFolder) -> None:
    weights = resolve_base_weights(CONFIG.model.weights)
    loaded = PeftModel.from_pretrained(load_bert(weights), str(exported)).eval()
    adapter, _ = run.read_adapter()
    catalogue = synthetic_dataset().catalogue
    ours = loaded_recommender(CONFIG, catalogue, adapter, np.zeros(0, np.float32))
    theirs = {
        name.replace(".default.weight", ".weight"): p for name, p in loaded.named_parameters()
    }
    seen = 0
    for name, p in ours.item_tower.peft.named_parameters():
        if "lora_" in name:
            seen += 1
            assert torch.equal(p, theirs[name.replace(".default.weight", ".weight")]), name
    assert seen == 4  # A and B of query and value


def test_a_site_installs_it_and_scores_as_the_run_does(
    export: Path, site: Path, run: RunFolder, fedrec_site: Command
) -> None:
    code, out, err = fedrec_site(
        "install-adapter", export, "--site", site, "--key", signer_of(export), "--json"
    )
    assert code == 0, err
    folder = current_folder(site)
    assert folder is not None
    assert folder.name == json.loads(out)["current"]
    found = read_export(folder, read_manifest(folder))
    catalogue = synthetic_dataset().catalogue
    histories = [np.array([0, 3, 5]), np.array([7])]
    prior = run.read_checkpoint()[0]["item_prior"]
    of_run = loaded_recommender(CONFIG, catalogue, run.read_adapter()[0], prior)
    expected = of_run.score_all(histories).copy()
    of_run.set_item_prior(torch.zeros(len(catalogue)))
    installed = loaded_recommender(
        found.config, catalogue, found.adapter, found.item_prior, found.item_to_item
    )
    np.testing.assert_array_equal(installed.score_all(histories), expected)


def test_a_site_goes_back_and_forth(export: Path, site: Path, fedrec_site: Command) -> None:
    install = ("install-adapter", export, "--site", site, "--key", signer_of(export))
    code, _, err = fedrec_site("rollback-adapter", "--site", site)
    assert code == 2
    assert "no adapter installed" in err
    assert fedrec_site(*install)[0] == 0
    first = current_folder(site)
    assert fedrec_site(*install)[0] == 0
    second = current_folder(site)
    assert first is not None
    assert second is not None
    assert first != second
    assert fedrec_site("rollback-adapter", "--site", site)[0] == 0
    assert current_folder(site) == first
    code, _, err = fedrec_site("rollback-adapter", "--site", site)
    assert code == 2
    assert "no adapter before" in err
    assert current_folder(site) == first


def test_every_change_of_an_export_is_seen(export: Path) -> None:
    signer = signer_of(export)
    verify_export(export, {signer})
    names = sorted(path.name for path in export.iterdir() if path.name != "manifest.json")
    assert {"README.md", "PRIVACY.md", "head.safetensors", "item_prior.safetensors"} < set(names)
    for name in names:
        whole = (export / name).read_bytes()
        (export / name).write_bytes(whole + b" ")
        with pytest.raises(ExportError, match=f"{name} is changed"):
            verify_export(export, {signer})
        (export / name).unlink()
        with pytest.raises(ExportError, match=f"{name} is missing"):
            verify_export(export, {signer})
        (export / name).write_bytes(whole)
    (export / "more.bin").write_bytes(b"")
    with pytest.raises(ExportError, match=r"more.bin is not in the manifest"):
        verify_export(export, {signer})
    (export / "more.bin").unlink()
    manifest = json.loads((export / "manifest.json").read_text())
    for changed in ({"server_round": 4}, {"run": "another"}, {"base_weights": "x"}):
        (export / "manifest.json").write_text(json.dumps(manifest | changed))
        with pytest.raises(ExportError, match="was changed after signing"):
            verify_export(export, {signer})


def test_only_a_trusted_key_signs(
    run: RunFolder, export: Path, site: Path, tmp_path: Path, fedrec_site: Command
) -> None:
    for key in ("0" * 64, "00"):
        code, _, err = fedrec_site("install-adapter", export, "--site", site, "--key", key)
        assert code == 2
        assert "not a trusted key" in err
    with pytest.raises(ConfigError, match="no key is trusted"):
        _install(export, site, SitePolicy())
    _install(export, site, SitePolicy(code_signers=frozenset({signer_of(export)})))
    export_run(run.path, tmp_path / "unsigned", None)
    code, _, err = fedrec_site(
        "install-adapter", tmp_path / "unsigned", "--site", site, "--key", signer_of(export)
    )
    assert code == 2
    assert "is not signed" in err


def test_other_base_weights_and_another_catalogue_are_refused(export: Path, site: Path) -> None:
    signers = frozenset({signer_of(export)})
    with pytest.raises(PolicyRefusal, match="base weights"):
        _install(
            export,
            site,
            SitePolicy(code_signers=signers, base_weights_sha256=frozenset({"0" * 64})),
        )
    with pytest.raises(ExportError, match="item prior is for"):
        _install(export, site, SitePolicy(code_signers=signers), items=3)
    assert current_folder(site) is None
    assert not [p for p in (site / "adapters").iterdir() if p.is_dir()]


def _install(export: Path, site: Path, policy: SitePolicy, items: int | None = None) -> None:
    from client.installed_adapter import install_adapter

    catalogue = synthetic_dataset().catalogue
    if items is not None:
        catalogue = type(catalogue)(
            catalogue.item_ids[:items], catalogue.texts[:items], catalogue.genres[:items]
        )
    install_adapter(export, site, policy, catalogue, None)


def test_an_export_never_overwrites_and_wants_a_trained_run(
    run: RunFolder,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = in_own_process(server_main, "fedrec-server", monkeypatch=monkeypatch, capsys=capsys)
    code, _, err = server("export", run.path, "--out", exported)
    assert code == 2
    assert "never overwrites" in err
    empty = RunFolder.create(tmp_path / "empty")
    empty.write_config(CONFIG)
    code, _, err = server("export", empty.path, "--out", tmp_path / "out")
    assert code == 2
    assert "no trained adapter yet" in err
    spoiled = RunFolder(Path(shutil.copytree(run.path, tmp_path / "spoiled")))
    adapter, _ = spoiled.read_adapter()
    spoiled.write_adapter({n: a + 1 for n, a in adapter.items()}, {"run": "trained-1"})
    with pytest.raises(EvidenceError, match="is not that of round 3"):
        export_run(spoiled.path, tmp_path / "out", None)
    assert not (tmp_path / "out").exists()


def test_the_card_and_the_statement_say_what_must_be_said(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert resolve_base_weights(CONFIG.model.weights).sha256 in card
    assert "No privacy guarantee" in card
    assert "no metric left any site" in card
    assert "No privacy guarantee" in (exported / "PRIVACY.md").read_text()
    described = json.loads((exported / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == CONFIG.model.weights
