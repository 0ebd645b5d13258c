from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError
from common.secagg import shamir
from common.secagg.shamir import PRIME, reconstruct, split, weights_at_zero

secrets_32 = st.binary(min_size=32, max_size=32)


def combine(shares: dict[int, bytes]) -> bytes:
    return reconstruct(shares, weights_at_zero(shares))


@given(secrets_32, st.data())
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, data: st.DataObject) -> None:
    points = data.draw(st.sets(st.integers(1, 1000), min_size=1, max_size=12))
    threshold = data.draw(st.integers(1, len(points)))
    shares = split(secret, threshold, points)
    held = data.draw(st.permutations(sorted(points)))
    count = data.draw(st.integers(threshold, len(points)))
    assert combine({x: shares[x] for x in held[:count]}) == secret


@given(secrets_32, secrets_32, st.integers(2, 8))
def test_fewer_shares_fit_every_secret(secret: bytes, other: bytes, threshold: int) -> None:
    # Information-theoretic: for the same threshold − 1 shares, some last share gives `other`.
    shares = split(secret, threshold, range(1, threshold + 1))
    weights = weights_at_zero(shares)
    partial = sum(weights[x] * int.from_bytes(shares[x], "big") for x in range(1, threshold))
    last = (int.from_bytes(other, "big") - partial) * pow(weights[threshold], -1, PRIME) % PRIME
    forged = shares | {threshold: last.to_bytes(shamir.SHARE_BYTES, "big")}
    assert combine(forged) == other


def test_coefficients_are_fresh() -> None:
    first, second = (split(bytes(32), 2, [1, 2]) for _ in range(2))
    assert first[1] != second[1]
    assert split(bytes(32), 1, [1, 2]) == {1: bytes(33), 2: bytes(33)}


@given(secrets_32, st.integers(1, 2**200))
def test_a_wrong_share_changes_the_secret(secret: bytes, change: int) -> None:
    shares = split(secret, 3, [1, 2, 3])
    wrong = (int.from_bytes(shares[2], "big") + change) % PRIME
    with contextlib.suppress(MessageError):
        assert combine(shares | {2: wrong.to_bytes(33, "big")}) != secret


def test_what_is_no_share_is_refused() -> None:
    shares = split(bytes(32), 2, [1, 2])
    for bad in (b"\xff" * 33, b"", bytes(32)):
        with pytest.raises(MessageError, match="no element"):
            combine(shares | {1: bad})
    too_large = split(b"\xff" * 32, 1, [1])
    with pytest.raises(MessageError, match="one secret"):
        combine({1: (int.from_bytes(too_large[1], "big") + 1).to_bytes(33, "big")})


@pytest.mark.parametrize(
    ("secret", "threshold", "points"),
    [(bytes(31), 1, [1]), (bytes(32), 2, [1]), (bytes(32), 0, [1]), (bytes(32), 1, [0]),
     (bytes(32), 1, [1, 1]), (bytes(32), 1, [PRIME])],
)  # fmt: skip
def test_impossible_splits_are_refused(secret: bytes, threshold: int, points: list[int]) -> None:
    with pytest.raises(ValueError, match="secret|threshold|points"):
        split(secret, threshold, points)


def test_the_modulus_is_prime() -> None:
    # Miller and Rabin, 40 bases: a composite passes with probability below 2^-80.
    odd, rng = (PRIME - 1) // 8, random.Random(0)
    assert odd * 8 == PRIME - 1
    assert odd % 2
    for _ in range(40):
        x = pow(rng.randrange(2, PRIME - 1), odd, PRIME)
        squares = [x, x * x % PRIME, pow(x, 4, PRIME)]
        assert x == 1 or PRIME - 1 in squares
