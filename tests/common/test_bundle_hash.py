"""The hash of a bundle's code, and who signed it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.app_staging import stage_app
from common.bundle_hash import (
    bundle_root,
    bundle_sha256,
    bundle_signatures,
    sign_bundle,
    signature_of,
    verified_signers,
)
from common.errors import MessageError, SiteAgentError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return stage_app(tmp_path)


def test_a_staged_bundle_has_the_hash_of_what_is_installed(bundle: Path) -> None:
    assert bundle_sha256(bundle) == bundle_sha256(bundle_root())


def test_every_change_of_the_code_changes_the_hash(bundle: Path) -> None:
    seen = {bundle_sha256(bundle)}
    (bundle / "client" / "app.py").write_text("x = 1\n")
    seen.add(bundle_sha256(bundle))
    (bundle / "client" / "app.py").rename(bundle / "client" / "moved.py")
    seen.add(bundle_sha256(bundle))
    (bundle / "server" / "more.py").write_text("")
    seen.add(bundle_sha256(bundle))
    assert len(seen) == 4


def test_no_bundle_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SiteAgentError, match="holds no bundle"):
        bundle_sha256(tmp_path)


def test_a_signature_counts_for_its_hash_only(bundle: Path, tmp_path: Path) -> None:
    assert bundle_signatures(bundle) == ()
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key").write_bytes(key.private_bytes_raw())
    for _ in range(2):  # again: replaced, not doubled
        made = sign_bundle(bundle, tmp_path / "key")
    assert bundle_signatures(bundle) == (made,)
    sha256 = bundle_sha256(bundle)  # the signatures are no part of it
    assert verified_signers(sha256, [made]) == {key.public_key().public_bytes_raw().hex()}
    assert verified_signers("0" * 64, [made]) == frozenset()
    forged = made.model_copy(update={"public_key": signature_of(sha256, _other()).public_key})
    assert verified_signers(sha256, [forged]) == frozenset()


def _other() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def test_damaged_signatures_and_keys_are_one_line(bundle: Path, tmp_path: Path) -> None:
    (bundle / "client" / "signatures.json").write_text('[{"public_key": 1}]')
    with pytest.raises(MessageError, match="no list of signatures"):
        bundle_signatures(bundle)
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(SiteAgentError, match="32 raw bytes"):
        sign_bundle(bundle, tmp_path / "key")
