"""Peers keep each other's newest checkpoint, and see a ledger that went back."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.peer_checkpoints import PEERS_FILE, PeerCheckpoints
from common.ledger_checkpoint import read_checkpoints, sign_checkpoint
from common.secagg.key_messages import KeyAdvert

KEY = Ed25519PrivateKey.generate()
PINNED = {"north": KEY.public_key().public_bytes_raw()}


def advert(
    size: int, root: int = 0, key: Ed25519PrivateKey = KEY, site: str = "north"
) -> KeyAdvert:
    checkpoint = sign_checkpoint(
        key,
        site=site,
        ledger_id="a" * 64,
        tree_size=size,
        root=bytes([root]) * 32,
        spent=(),
        time="2026-01-01T00:00:00Z",
    )
    blank = bytes(32)
    text = checkpoint.text().encode()
    return KeyAdvert(blank, blank, site, blank, blank, blank, text, bytes(64))


def test_the_newest_of_each_peer_is_kept(tmp_path: Path) -> None:
    peers, other = PeerCheckpoints(tmp_path), Ed25519PrivateKey.generate()
    both = PINNED | {"south": other.public_key().public_bytes_raw()}
    assert peers.keep([advert(1), advert(4, key=other, site="south")], both) == []
    assert peers.keep([advert(3)], PINNED) == []
    kept = {each.site: each.tree_size for each in read_checkpoints(tmp_path / PEERS_FILE)}
    assert kept == {"north": 3, "south": 4}


@pytest.mark.parametrize(("size", "root"), [(2, 0), (3, 1)])
def test_a_ledger_that_went_back_is_seen_and_the_higher_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int, root: int
) -> None:
    peers = PeerCheckpoints(tmp_path)
    peers.keep([advert(3)], PINNED)
    with caplog.at_level(logging.WARNING):
        assert PeerCheckpoints(tmp_path).keep([advert(size, root)], PINNED) == ["north"]
    assert "peer north has gone back" in caplog.text
    (kept,) = read_checkpoints(tmp_path / PEERS_FILE)
    assert kept.place == (3, "00" * 32)


def test_what_is_no_signed_checkpoint_is_not_kept(tmp_path: Path) -> None:
    good = advert(1)
    blank, forged = bytes(32), good.checkpoint.replace(b'"tree_size":1', b'"tree_size":9')
    assert forged != good.checkpoint
    for text in (b"", b"nonsense", forged):
        made = KeyAdvert(blank, blank, "north", blank, blank, blank, text, bytes(64))
        assert PeerCheckpoints(tmp_path).keep([made], PINNED) == []
    assert not (tmp_path / PEERS_FILE).exists()


def test_a_peer_speaks_for_its_own_ledger_only(tmp_path: Path) -> None:
    stranger = Ed25519PrivateKey.generate()
    assert PeerCheckpoints(tmp_path).keep([advert(5, key=stranger)], PINNED) == []
    assert not (tmp_path / PEERS_FILE).exists()
