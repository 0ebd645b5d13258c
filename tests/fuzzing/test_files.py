"""Files that others hand over, and an operator's own: read, or refused by a typed error."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given

from client.connection import _read_ca
from client.installed_adapter import current_folder, install_adapter
from client.policy import SitePolicy
from client.policy_file import read_policy
from client.source.settings_file import read_source
from common.adapter_export import MANIFEST_FILE, Manifest, read_manifest
from common.adapters import adapter_sha256
from common.atomic_files import write_json
from common.bundle_hash import SIGNATURES_FILE, bundle_signatures, signature_of, verified_signers
from common.config import DataConfig, ModelConfig, PrivacyConfig, RunConfig
from common.errors import ConfigError, FedrecError
from common.initial_adapter import initial_adapter
from common.run_folder import RunFolder
from server.certificates import make_authority
from server.export import export_run
from server.site_keys import read_node_key
from simulations.synthetic import synthetic_dataset
from tests.fuzzing.counting import knocked, share, sort_of
from tests.fuzzing.mutations import hostile, hostile_bytes, text
from tests.server.test_gate import new_key
from tests.site_sources import CSV_SOURCE

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
SIGNER = KEY.public_key().public_bytes_raw().hex()
HASH = "a" * 64
POLICY = f"""
max_epsilon = 8.0
allowed_modes = ["local"]
relay_users = ["fedrec-relay", 1000]
code_signers = ["{SIGNER}"]

[peers]
north = "{SIGNER}"
"""
CONFIG = RunConfig(
    data=DataConfig(dataset="synthetic", sites=2),
    model=ModelConfig(head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
    privacy=PrivacyConfig(mode="none"),
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the unit files make a site."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def tried(door: str, content: bytes, read: Callable[[], Any]) -> bool:
    """Whether the file was taken; the one other way is an error of ours."""
    with knocked(door, content) as said:
        fault = refused(read)
        if fault is None:
            said["taken"] += 1
            return True
        line = str(fault)
        assert isinstance(fault, ConfigError) or "\n" not in line, line
        assert len(line) < 20_000
        said[f"{type(fault).__name__}: {sort_of(line)[:60]}"] += 1
    return False


def refused(read: Callable[[], Any]) -> FedrecError | None:
    """The error of ours that reading ends with, if it does."""
    try:
        read()
    except FedrecError as fault:
        return fault
    return None


def hostile_text(r: Random, valid: str) -> bytes:
    """A small text file with a value, a line or some bytes changed."""
    lines = valid.splitlines()
    for _ in range(r.randint(1, 2)):
        at, sort = r.randrange(len(lines)), r.randint(0, 4)
        name, sign, _ = lines[at].partition(" = ")
        if sort < 3 and sign:
            values = [
                "nan",
                "inf",
                "-1",
                "[]",
                "{}",
                '""',
                "true",
                "[[1]]",
                "1979-05-27",
                '["\\u0000"]',
            ]
            lines[at] = f"{name} = {r.choice([*values, repr(text(r)[:99])])}"
        elif sort == 3:
            lines.insert(at, r.choice(lines))
        else:
            lines[at] = lines[at].replace(r.choice("abeimns_"), r.choice("xé[]=\"'\x00"))
    content = "\n".join(lines).encode()
    return hostile_bytes(r, content) if r.random() < 0.3 else content


def test_an_operator_s_settings(tmp_path: Path) -> None:
    readers: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "policy.toml": (POLICY, lambda folder: read_policy(folder / "policy.toml")),
        "source.toml": (CSV_SOURCE, read_source),
    }

    @share(0.06)
    @given(
        hostile(lambda r: bytes([n := r.randint(0, 1)]) + hostile_text(r, [POLICY, CSV_SOURCE][n]))
    )
    def fuzzed(content: bytes) -> None:
        name = list(readers)[content[0]]
        (tmp_path / name).write_bytes(content[1:])
        tried(f"file: {name}", content, lambda: readers[name][1](tmp_path))

    fuzzed()


def test_keys_certificates_and_signatures(tmp_path: Path) -> None:
    good = write_signatures(tmp_path)
    authority = make_authority("ours").certificate_pem()
    public, _ = new_key()

    def signers() -> Any:
        return verified_signers(HASH, bundle_signatures(tmp_path))

    files: list[tuple[str, bytes, Callable[[], Any]]] = [
        (SIGNATURES_FILE, good, signers),
        ("node.pub", public, lambda: read_node_key(tmp_path / "node.pub")),
        ("ca.crt", authority, lambda: _read_ca(tmp_path / "ca.crt")),
    ]

    @share(0.06)
    @given(hostile(lambda r: bytes([n := r.randrange(3)]) + hostile_bytes(r, files[n][1])))
    def fuzzed(content: bytes) -> None:
        name, valid, read = files[content[0]]
        (tmp_path / name).write_bytes(content[1:])
        tried(f"file: {name.rpartition('/')[2]}", content, read)
        if name == SIGNATURES_FILE and content[1:] != valid:
            (tmp_path / name).write_bytes(valid)

    fuzzed()
    assert signers() == {SIGNER}


def write_signatures(folder: Path) -> bytes:
    """The signatures of a bundle, one of them."""
    (folder / SIGNATURES_FILE).parent.mkdir()
    write_json(folder / SIGNATURES_FILE, [signature_of(HASH, KEY).model_dump()])
    return (folder / SIGNATURES_FILE).read_bytes()


def test_a_signature_with_anything_changed_counts_for_nothing(tmp_path: Path) -> None:
    good = signature_of(HASH, KEY)

    @share(0.02)
    @given(hostile(lambda r: bytes([r.randint(0, 2), r.randint(0, 63), r.randint(1, 15)])))
    def fuzzed(where: bytes) -> None:
        which, at, by = where
        fields = [HASH, good.public_key, good.signature]
        digit = f"{int(fields[which][at], 16) ^ by:x}"
        fields[which] = fields[which][:at] + digit + fields[which][at + 1 :]
        changed = good.model_copy(update={"public_key": fields[1], "signature": fields[2]})
        with knocked("signature of a bundle", where) as said:
            assert verified_signers(fields[0], [changed]) == frozenset()
            said["none"] += 1

    fuzzed()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed export of a run that never trained."""
    run = RunFolder.create(tmp_path_factory.mktemp("runs") / "r")
    run.write_config(CONFIG)
    adapter = initial_adapter(CONFIG)
    run.write_adapter(adapter, {"run": "r"})
    prior = np.zeros(len(synthetic_dataset().catalogue), np.float32)
    run.write_checkpoint({"item_prior": prior}, {"run": "r"})
    run.append_round({"run": "r", "server_round": 3, "adapter_sha256": adapter_sha256(adapter)})
    key = tmp_path_factory.mktemp("key") / "signing.key"
    key.write_bytes(KEY.private_bytes_raw())
    key.chmod(0o600)
    out = tmp_path_factory.mktemp("out") / "export"
    export_run(run.path, out, key)
    return out


def test_an_export_that_somebody_changed(exported: Path, tmp_path: Path) -> None:
    """Half of them are signed anew: what a trusted key signed may be broken as well."""
    site, catalogue = tmp_path / "site", synthetic_dataset().catalogue
    site.mkdir()
    policy = SitePolicy(code_signers=frozenset({SIGNER}))
    export = Path(shutil.copytree(exported, tmp_path / "export"))
    name, _ = install_adapter(export, site, policy, catalogue, None)
    names = sorted(each.name for each in exported.iterdir())

    def made(r: Random) -> bytes:
        which = r.randrange(len(names))
        return bytes([which, r.randint(0, 1)]) + changed_file(r, exported / names[which])

    @share(0.05)
    @given(hostile(made))
    def fuzzed(content: bytes) -> None:
        file, signs = names[content[0]], content[1] == 1
        (export / file).write_bytes(content[2:])
        if signs and file != MANIFEST_FILE:
            sign_anew(export, file)
        taken = tried(
            "file: export", content, lambda: install_adapter(export, site, policy, catalogue, None)
        )
        assert not taken or signs or says_the_same(content[2:], exported / file)
        for each in {file, MANIFEST_FILE}:
            shutil.copyfile(exported / each, export / each)
        if taken:
            shutil.rmtree(site / "adapters")
            install_adapter(export, site, policy, catalogue, None)
        assert current_folder(site) == site / "adapters" / name
        assert [each.name for each in (site / "adapters").glob(".new.*")] == []

    fuzzed()


def says_the_same(content: bytes, file: Path) -> bool:
    """Whether a file is as it was; of the manifest, whose content is signed, blanks count not."""
    original = file.read_bytes()
    if file.name != MANIFEST_FILE:
        return content == original
    try:
        return bool(json.loads(content) == json.loads(original))
    except ValueError:
        return False


def changed_file(r: Random, path: Path) -> bytes:
    """A file of an export with something wrong in it."""
    content = path.read_bytes()
    if path.suffix in (".toml", ".json") and r.random() < 0.5:
        return hostile_text(r, content.decode())
    return hostile_bytes(r, content)


def sign_anew(export: Path, file: str) -> None:
    """The manifest of an export with the hash of a file that was changed."""
    manifest: Manifest = read_manifest(export)
    digest = hashlib.sha256((export / file).read_bytes()).hexdigest()
    changed = manifest.model_copy(update={"files": {**manifest.files, file: digest}})
    write_json(export / MANIFEST_FILE, changed.signed_by(KEY).model_dump())
