"""The site's source of randomness for noise, sampling and rounding.

A ChaCha20 keystream, expanded in bulk. `secure_source` keys it from the operating system
and is the only one a real run uses; `seeded_source` derives the key from public values, so
that whoever knows them can subtract the noise and replay the sample: it voids the privacy
guarantee and exists for tests and runs marked ``insecure_seeded_noise``.

Normals come from the inverse distribution function of a 63-bit uniform and a separate sign
bit, computed in float64 with full relative precision towards the tail. The largest
magnitude is about 9.1 (the ideal normal passes it with probability 1.1e-19, which is the
total-variation distance caused by the cut).
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms
from scipy.special import ndtri

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_KEY_BYTES = 32
# ChaCha20's block counter has 32 bits; a stream changes its nonce long before 2^38 bytes.
_BYTES_PER_NONCE = 2**36


class RandomSource:
    """Independent draws from one ChaCha20 keystream; made by the two functions below.

    One source belongs to one site and one thread. It cannot be copied or pickled: a copy
    would repeat noise, and the difference of two releases with equal noise is exact.
    """

    def __init__(self, key: bytes, *, fork_safe: bool) -> None:
        self._fork_safe = fork_safe
        self._start(key)

    def uniform(self, n: int) -> Floats:
        """Uniform numbers on the grid k/2^53 in [0, 1). Returns: float64 [n]."""
        uniform: Floats = np.ldexp((self._words(n) >> np.uint64(11)).astype(np.float64), -53)
        return uniform

    def normal(self, n: int) -> Floats:
        """Standard normal numbers. Returns: float64 [n]."""
        words = self._words(n)
        negative = (words & np.uint64(1)).astype(bool)
        tail = ((words >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-64  # (0, ½]
        magnitude: Floats = -ndtri(tail)
        return np.where(negative, -magnitude, magnitude)

    def integers(self, high: int, n: int) -> Integers:
        """Uniform integers in [0, high), unbiased by rejection. Returns: int64 [n].

        Raises:
            ValueError: high is not in [1, 2^63].
        """
        if not 1 <= high <= 2**63:
            raise ValueError(f"high must be in [1, 2^63], got {high}")
        accepted: list[npt.NDArray[np.uint64]] = []
        missing, largest = n, np.uint64(2**64 // high * high - 1)
        while missing > 0:
            words = self._words(missing)
            accepted.append(words[words <= largest])
            missing -= len(accepted[-1])
        drawn = np.concatenate([np.empty(0, np.uint64), *accepted])
        return (drawn % np.uint64(high)).astype(np.int64)

    def permutation(self, n: int) -> Integers:
        """A uniform permutation of 0 … n−1. Returns: int64 [n]."""
        while True:
            keys = self._words(n)
            order = np.argsort(keys, kind="stable")
            ranked = keys[order]
            if not np.any(ranked[1:] == ranked[:-1]):  # a tie would favour the given order
                return order.astype(np.int64)

    def _words(self, n: int) -> npt.NDArray[np.uint64]:
        """The next `n` 64-bit words of the keystream."""
        if n < 0:
            raise ValueError(f"the number of draws must be non-negative, got {n}")
        if self._fork_safe and os.getpid() != self._pid:
            self._start(os.urandom(_KEY_BYTES))  # a child must not repeat its parent's stream
        if self._left < 8 * n:
            self._next_nonce()
        self._left -= 8 * n
        return np.frombuffer(self._stream.update(bytes(8 * n)), dtype="<u8")

    def _start(self, key: bytes) -> None:
        self._key, self._pid, self._nonce = key, os.getpid(), -1
        self._next_nonce()

    def _next_nonce(self) -> None:
        self._nonce += 1
        counter_and_nonce = bytes(4) + self._nonce.to_bytes(12, "little")
        cipher = Cipher(algorithms.ChaCha20(self._key, counter_and_nonce), mode=None)
        self._stream: CipherContext = cipher.encryptor()
        self._left = _BYTES_PER_NONCE

    def __reduce__(self) -> str | tuple[object, ...]:
        """Refuse copies; see the class's docstring."""
        raise TypeError("a RandomSource cannot be copied or pickled: it would repeat its noise")


def secure_source() -> RandomSource:
    """A source that nobody can replay.

    Its key comes from the operating system, and in a forked child again a fresh one.
    """
    return RandomSource(os.urandom(_KEY_BYTES), fork_safe=True)


def seeded_source(seed: int, *names: str | int) -> RandomSource:
    """A source that repeats for equal arguments; it voids the privacy guarantee.

    Args:
        seed: the experiment's seed.
        names: what the stream is for, e.g. site, server_round, "noise". Different names
            give independent streams; ``("a", "bc")`` and ``("ab", "c")`` differ.
    """
    digest = hashlib.sha256()
    for field in ("fedrec.seeded_source.v1", seed, *names):
        encoded = f"{type(field).__name__}:{field}".encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return RandomSource(digest.digest(), fork_safe=False)
