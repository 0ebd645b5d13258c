"""Cryptography of one round, all primitives from `cryptography`; nothing is invented here.

- X25519 (RFC 7748) for the pairwise secrets; two key pairs per site and round, one for the
  masks and one for the encryption of shares, as in Bonawitz et al. 2017.
- HKDF-SHA256 (RFC 5869) with an ``info`` that names purpose, round context (which binds run,
  round, config hash, participants and thresholds) and the parties. Every derived key thus
  serves one purpose, once: fixed nonces are safe.
- ChaCha20 (RFC 8439) expands a key to a mask: the whole 256-bit key counts, and every residue
  modulo 2^k is equally likely, since 2^k divides the range of a keystream word.
- ChaCha20-Poly1305 seals shares; Ed25519 signs.
"""

from __future__ import annotations

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.errors import SecAggRefusal
from common.secagg.modular import Residues, reduce

KEY_BYTES = 32
SEAL_BYTES = 16
_DOMAIN = b"fedrec/secagg/v1/"


def framed(*fields: bytes) -> bytes:
    """The fields as one string that no other fields give."""
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def derive(secret: bytes, purpose: str, *bound_to: bytes) -> bytes:
    """A 32-byte key for one purpose, bound to all that `bound_to` names."""
    info = framed(_DOMAIN + purpose.encode(), *bound_to)
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def agree(private: X25519PrivateKey, peer: bytes) -> bytes:
    """The X25519 secret with `peer`'s public key; not uniform, so only for `derive`.

    Raises:
        SecAggRefusal: (bad_share) the peer's key is a point of low order.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError as error:
        raise SecAggRefusal("bad_share", "a peer's public key has low order") from error


def pair_mask_key(private: X25519PrivateKey, peer: bytes, context: bytes, pair: set[str]) -> bytes:
    """The key of the mask that the two sites of `pair` share; the same at both ends."""
    return derive(agree(private, peer), "pair-mask", context, *(s.encode() for s in sorted(pair)))


def self_mask_key(seed: bytes, context: bytes, site: str) -> bytes:
    """The key of the mask that `site` adds on its own."""
    return derive(seed, "self-mask", context, site.encode())


def seed_commitment(seed: bytes, context: bytes, site: str) -> bytes:
    """Binds `site` to its 256-bit self-mask seed and hides it."""
    return derive(seed, "seed-commitment", context, site.encode())


def expand_mask(key: bytes, length: int, bits: int) -> Residues:
    """`length` uniform residues modulo 2^`bits` from ChaCha20 under `key`, used only here."""
    word = np.dtype("<u4") if bits <= 32 else np.dtype("<u8")
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    words = np.frombuffer(stream.update(bytes(word.itemsize * length)), dtype=word)
    return reduce(words.astype(np.uint64), bits)


def share_seal_key(
    private: X25519PrivateKey, peer: bytes, context: bytes, sender: str, recipient: str
) -> bytes:
    """The key that seals the one message of shares from `sender` to `recipient`."""
    return derive(agree(private, peer), "share-seal", context, sender.encode(), recipient.encode())


def seal(key: bytes, plain: bytes) -> bytes:
    """Encrypt and authenticate the one message under `key`."""
    return ChaCha20Poly1305(key).encrypt(bytes(12), plain, None)


def unseal(key: bytes, sealed: bytes, sender: str) -> bytes:
    """Decrypt what `seal` made.

    Raises:
        SecAggRefusal: (bad_share) it was not sealed under `key`, or was changed.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, None)
    except InvalidTag as error:
        raise SecAggRefusal("bad_share", f"the shares from {sender} were changed") from error


def statement(purpose: str, *fields: bytes) -> bytes:
    """What is signed: never the same bytes for two purposes."""
    return framed(_DOMAIN + purpose.encode(), *fields)


def is_signed(identity: bytes, signature: bytes, signed: bytes) -> bool:
    """Whether `signature` is that of the Ed25519 public key `identity` on `signed`."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, signed)
    except InvalidSignature:
        return False
    return True
