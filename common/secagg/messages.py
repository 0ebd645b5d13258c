"""The messages of one round of secure aggregation, in their order.

===  ====================  ==================  ==============================================
 0   KeyAdvert             site → server       fresh public keys, signed by the site's identity
 0   KeyList               server → each       all adverts; equal for everybody
 1   ShareUpload           site → server       shares of its two secrets, sealed per neighbour
 1   ShareDelivery         server → each       who shared (equal for all), and shares for you
 2   MaskedInput           site → server       vector + self mask ± pair masks, modulo 2^k
 2   SurvivorList          server → each       whose input arrived
 3   SurvivorSignature     site → server       signs keys, sharers and survivors together
 3   UnmaskRequest         server → each       the signatures
 4   UnmaskShares          site → server       survivors' seed shares, others' key shares
===  ====================  ==================  ==============================================

Every message carries the round's context. Encoding is canonical: a message has one encoding,
and ``decode(encode(m)) == m``; anything else raises `MessageError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from common.secagg.key_messages import CONTEXT_BYTES, SIGNATURE_BYTES, KeyAdvert, KeyList
from common.secagg.keys import SEAL_BYTES, framed, statement
from common.secagg.shamir import SHARE_BYTES
from common.secagg.wire import Reader, blob_bytes, header, list_bytes, name_bytes

SEALED_BYTES = 2 * SHARE_BYTES + SEAL_BYTES

Named = tuple[tuple[str, bytes], ...]

__all__ = [
    "KeyAdvert",
    "KeyList",
    "MaskedInput",
    "ShareDelivery",
    "ShareUpload",
    "SurvivorList",
    "SurvivorSignature",
    "UnmaskRequest",
    "UnmaskShares",
]


@dataclass(frozen=True)
class ShareUpload:
    """Sealed shares of `site`'s secrets, one pair per neighbour (82 bytes each)."""

    KIND: ClassVar[int] = 2
    context: bytes
    site: str
    sealed: Named

    def encode(self) -> bytes:
        """The message as bytes."""
        return _from_site(self.KIND, self.context, self.site) + _named(self.sealed)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        message = cls(reader.exactly(CONTEXT_BYTES), reader.name(), _read(reader, SEALED_BYTES))
        reader.end()
        return message


@dataclass(frozen=True)
class ShareDelivery:
    """All sites that shared (the same list for everybody) and the shares for one of them."""

    KIND: ClassVar[int] = 3
    context: bytes
    sharers: tuple[str, ...]
    sealed: Named

    def encode(self) -> bytes:
        """The message as bytes."""
        names = list_bytes(map(name_bytes, self.sharers))
        return header(self.KIND) + self.context + names + _named(self.sealed)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        context, names = reader.exactly(CONTEXT_BYTES), reader.items(reader.name, str)
        message = cls(context, names, _read(reader, SEALED_BYTES))
        reader.end()
        return message


@dataclass(frozen=True)
class MaskedInput:
    """The masked vector, packed k bits a number; uniform to whoever lacks one mask."""

    KIND: ClassVar[int] = 4
    context: bytes
    site: str
    packed: bytes

    def encode(self) -> bytes:
        """The message as bytes."""
        return _from_site(self.KIND, self.context, self.site) + blob_bytes(self.packed)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        message = cls(reader.exactly(CONTEXT_BYTES), reader.name(), reader.blob())
        reader.end()
        return message


@dataclass(frozen=True)
class SurvivorList:
    """The sites whose masked input arrived."""

    KIND: ClassVar[int] = 5
    context: bytes
    survivors: tuple[str, ...]

    def encode(self) -> bytes:
        """The message as bytes."""
        return header(self.KIND) + self.context + list_bytes(map(name_bytes, self.survivors))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        message = cls(reader.exactly(CONTEXT_BYTES), reader.items(reader.name, str))
        reader.end()
        return message


@dataclass(frozen=True)
class SurvivorSignature:
    """`site` saw these keys, these sharers and these survivors, and will see no others."""

    KIND: ClassVar[int] = 6
    context: bytes
    site: str
    signature: bytes

    def encode(self) -> bytes:
        """The message as bytes."""
        return _from_site(self.KIND, self.context, self.site) + self.signature

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        context, site = reader.exactly(CONTEXT_BYTES), reader.name()
        message = cls(context, site, reader.exactly(SIGNATURE_BYTES))
        reader.end()
        return message


@dataclass(frozen=True)
class UnmaskRequest:
    """The survivors' signatures, by signer; it names no shares: each site knows which."""

    KIND: ClassVar[int] = 7
    context: bytes
    signatures: Named

    def encode(self) -> bytes:
        """The message as bytes."""
        return header(self.KIND) + self.context + _named(self.signatures)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        message = cls(reader.exactly(CONTEXT_BYTES), _read(reader, SIGNATURE_BYTES))
        reader.end()
        return message


@dataclass(frozen=True)
class UnmaskShares:
    """`site`'s shares, by owner: of survivors' seeds, and of vanished sites' mask keys."""

    KIND: ClassVar[int] = 8
    context: bytes
    site: str
    seed_shares: Named
    key_shares: Named

    def encode(self) -> bytes:
        """The message as bytes."""
        shares = _named(self.seed_shares) + _named(self.key_shares)
        return _from_site(self.KIND, self.context, self.site) + shares

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what `encode` wrote."""
        reader = Reader(data, cls.KIND)
        context, site = reader.exactly(CONTEXT_BYTES), reader.name()
        message = cls(context, site, _read(reader, SHARE_BYTES), _read(reader, SHARE_BYTES))
        reader.end()
        return message


def survivors_signed(
    context: bytes, keys: bytes, sharers: tuple[str, ...], survivors: tuple[str, ...]
) -> bytes:
    """What a `SurvivorSignature` is on: all that must be equal at every honest site."""
    sets = [framed(*(name.encode() for name in names)) for names in (sharers, survivors)]
    return statement("survivors", context, keys, *sets)


def _from_site(kind: int, context: bytes, site: str) -> bytes:
    return header(kind) + context + name_bytes(site)


def _named(items: Named) -> bytes:
    return list_bytes(name_bytes(name) + data for name, data in items)


def _read(reader: Reader, size: int) -> Named:
    return reader.items(lambda: (reader.name(), reader.exactly(size)), lambda item: item[0])
