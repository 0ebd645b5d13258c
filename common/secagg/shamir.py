"""Shamir's secret sharing (1979) of 32-byte secrets over the prime field of 2^256 + 297.

Any `threshold` shares give the secret; fewer are distributed independently of it. One field
element holds a whole secret, so there are no limbs to get wrong. Coefficients come from the
operating system. Shares carry no check of their own: whoever reconstructs compares the secret
with its public commitment.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from common.errors import MessageError

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, points: Iterable[int]) -> dict[int, bytes]:
    """One share for each of `points`.

    Args:
        secret: 32 bytes.
        threshold: shares needed to reconstruct, at least 1 and at most the points.
        points: distinct positive integers below the prime, one per holder.

    Raises:
        ValueError: an argument out of range.
    """
    at = list(points)
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the secret must have {SECRET_BYTES} bytes, got {len(secret)}")
    if len(set(at)) != len(at) or not all(0 < x < PRIME for x in at):
        raise ValueError("points must be distinct integers in [1, prime)")
    if not 1 <= threshold <= len(at):
        raise ValueError(f"threshold must be in [1, {len(at)}], got {threshold}")
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "big"))
    return {x: _evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in at}


def weights_at_zero(points: Iterable[int]) -> dict[int, int]:
    """Lagrange's weights: the secret is Σ weight·share over exactly these points."""
    at = list(points)
    weights = {}
    for x in at:
        above = below = 1
        for other in at:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        weights[x] = above * pow(below, -1, PRIME) % PRIME
    return weights


def reconstruct(shares: Mapping[int, bytes], weights: Mapping[int, int]) -> bytes:
    """The secret from exactly the shares that `weights` was made for.

    Raises:
        MessageError: a share is not one, or together they give no 32-byte secret: at least
            one of them is wrong.
    """
    total = 0
    for x, weight in weights.items():
        share = int.from_bytes(shares[x], "big")
        if len(shares[x]) != SHARE_BYTES or share >= PRIME:
            raise MessageError(f"the share at point {x} is no element of the field")
        total = (total + weight * share) % PRIME
    if total >= 2 ** (8 * SECRET_BYTES):
        raise MessageError("the shares do not belong to one secret")
    return total.to_bytes(SECRET_BYTES, "big")


def _evaluate(coefficients: list[int], x: int) -> int:
    """Horner's rule; highest power first."""
    value = 0
    for coefficient in coefficients:
        value = (value * x + coefficient) % PRIME
    return value
