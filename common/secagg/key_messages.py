"""Stage 0 of `common.secagg.messages`: the sites' signed public keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import ClassVar, Self

from common.errors import MessageError
from common.secagg.keys import KEY_BYTES, statement
from common.secagg.wire import Reader, blob_bytes, header, list_bytes, name_bytes

CONTEXT_BYTES = 32
SIGNATURE_BYTES = 64
LARGEST_CHECKPOINT = 65_536


@dataclass(frozen=True)
class KeyAdvert:
    """A site's public keys of this round.

    `neutral_context` is the context without the config hash: with it a site tells a peer that
    runs another config from one in another round. `checkpoint` is the newest signed checkpoint
    of the site's ledger: its neighbours keep it, and the server cannot take it out.
    """

    KIND: ClassVar[int] = 0
    context: bytes
    neutral_context: bytes
    site: str
    encryption_key: bytes
    mask_key: bytes
    seed_commitment: bytes
    checkpoint: bytes
    signature: bytes

    @cached_property
    def signed(self) -> bytes:
        """What the signature is on."""
        return statement(
            "advert", self.context, self.neutral_context, self.site.encode(), self.encryption_key,
            self.mask_key, self.seed_commitment, self.checkpoint,
        )  # fmt: skip

    def encode(self) -> bytes:
        """The message as bytes."""
        keys = self.encryption_key + self.mask_key + self.seed_commitment
        contexts = self.context + self.neutral_context
        fixed = header(self.KIND) + contexts + name_bytes(self.site) + keys
        return fixed + blob_bytes(self.checkpoint) + self.signature

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        contexts = reader.exactly(CONTEXT_BYTES), reader.exactly(CONTEXT_BYTES)
        site = reader.name()
        encryption, mask, commitment = (reader.exactly(KEY_BYTES) for _ in range(3))
        checkpoint, signature = reader.blob(), reader.exactly(SIGNATURE_BYTES)
        if len(checkpoint) > LARGEST_CHECKPOINT:
            raise MessageError(f"the checkpoint of {site} has {len(checkpoint)} bytes")
        advert = cls(*contexts, site, encryption, mask, commitment, checkpoint, signature)
        reader.end()
        return advert


@dataclass(frozen=True)
class KeyList:
    """All adverts of the round, by site."""

    KIND: ClassVar[int] = 1
    adverts: tuple[KeyAdvert, ...]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the encoding: all sites' keys in one value."""
        return sha256(self.encode()).digest()

    def encode(self) -> bytes:
        """The message as bytes."""
        return header(self.KIND) + list_bytes(blob_bytes(a.encode()) for a in self.adverts)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        adverts = reader.items(lambda: KeyAdvert.decode(reader.blob()), lambda a: a.site)
        reader.end()
        return cls(adverts)
