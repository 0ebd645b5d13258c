"""Vectors of integers modulo 2^k, k ≤ 63: sums that wrap exactly, packed k bits a number.

Unsigned 64-bit arithmetic wraps modulo 2^64, of which 2^k is a divisor, so that adding and
subtracting never lose anything however many vectors are summed; `reduce` comes last.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import MessageError

Residues = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

LARGEST_BITS = 63


def reduce(values: Residues, bits: int) -> Residues:
    """Each value modulo 2^`bits`."""
    return values & _top(bits)


def from_signed(values: Integers, bits: int) -> Residues:
    """Signed integers as residues modulo 2^`bits`."""
    return reduce(values.astype(np.uint64), bits)  # two's complement: congruent modulo 2^64


def to_signed(residues: Residues, bits: int) -> Integers:
    """The representative of each residue in [−2^(bits−1), 2^(bits−1))."""
    shift = np.uint64(64 - bits)
    return (residues << shift).astype(np.int64) >> np.int64(64 - bits)


def packed_size(length: int, bits: int) -> int:
    """Bytes that `pack` needs for `length` numbers."""
    return (length * bits + 7) // 8


def pack(residues: Residues, bits: int) -> bytes:
    """`bits` bits per number, least significant first, zero-padded to a whole byte.

    Args:
        residues: uint64 [length], each below 2^bits.
        bits: 1 … 63.
    """
    octets = np.ascontiguousarray(residues, dtype="<u8").view(np.uint8).reshape(-1, 8)
    single = np.unpackbits(octets, axis=1, bitorder="little")[:, :bits]  # [length, bits]
    return np.packbits(single, bitorder="little").tobytes()


def unpack(data: bytes, length: int, bits: int) -> Residues:
    """Read what `pack` wrote. Returns: uint64 [length].

    Raises:
        MessageError: the wrong number of bytes, or padding that is not zero.
    """
    if len(data) != packed_size(length, bits):
        raise MessageError(
            f"{length} numbers of {bits} bits need {packed_size(length, bits)} bytes, "
            f"got {len(data)}"
        )
    single = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if single[length * bits :].any():
        raise MessageError("the padding of a packed vector is not zero")
    wide = np.zeros((length, 64), np.uint8)
    wide[:, :bits] = single[: length * bits].reshape(length, bits)
    octets = np.packbits(wide, axis=1, bitorder="little")  # [length, 8]
    return octets.view("<u8").reshape(length).astype(np.uint64)


def _top(bits: int) -> np.uint64:
    if not 1 <= bits <= LARGEST_BITS:
        raise ValueError(f"bits must be in [1, {LARGEST_BITS}], got {bits}")
    return np.uint64(2**bits - 1)
