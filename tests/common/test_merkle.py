"""The Merkle log against RFC 6962's own definitions, its worked example, and forgeries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    prefix_roots,
    root,
    verify_consistency,
    verify_inclusion,
)

# The log that Certificate Transparency's implementations are tested with.
ENTRIES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = st.integers(1, 40)


def defined_root(entries: Sequence[bytes]) -> bytes:
    """MTH(D[n]) written down as section 2.1 of the RFC defines it."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + defined_root(entries[:k]) + defined_root(entries[k:])).digest()


def entries_of(size: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(size)]


def log_of(size: int) -> list[bytes]:
    return [leaf_hash(entry) for entry in entries_of(size)]


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert defined_root(ENTRIES[:size]).hex() == ROOTS[size]
    assert root([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == ROOTS[size]


@given(SIZES)
def test_roots_are_those_of_the_definition(size: int) -> None:
    roots = prefix_roots(log_of(size))
    assert roots == [defined_root(entries_of(upto)) for upto in range(size + 1)]


def test_the_rfcs_example_of_seven_entries() -> None:
    leaves = log_of(7)
    a, b, c, d, e, f, j = leaves
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, l = node_hash(g, h), node_hash(i, j)  # noqa: E741  the RFC's names
    assert root(leaves) == node_hash(k, l)
    assert inclusion_proof(leaves, 0) == [b, h, l]
    assert inclusion_proof(leaves, 3) == [c, g, l]
    assert inclusion_proof(leaves, 4) == [f, j, k]
    assert inclusion_proof(leaves, 6) == [i, k]
    assert consistency_proof(leaves, 3) == [c, d, g, l]
    assert consistency_proof(leaves, 4) == [l]
    assert consistency_proof(leaves, 6) == [i, j, k]


@given(SIZES, st.data())
def test_every_entry_has_a_proof_and_no_other_entry_does(size: int, data: st.DataObject) -> None:
    leaves = log_of(size)
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size))
    proof = inclusion_proof(leaves, index)
    top = root(leaves)
    assert verify_inclusion(leaves[index], index, size, proof, top)
    if other != index:
        assert not verify_inclusion(leaves[index], other, size, proof, top)
    assert not verify_inclusion(leaf_hash(b"another"), index, size, proof, top)
    assert not verify_inclusion(leaves[index], index, size, [*proof, top], top)
    if proof:
        assert not verify_inclusion(leaves[index], index, size, proof[:-1], top)


@given(SIZES, st.data())
def test_a_prefix_has_a_proof_and_a_fork_does_not(size: int, data: st.DataObject) -> None:
    leaves = log_of(size)
    old_size = data.draw(st.integers(1, size))
    proof = consistency_proof(leaves, old_size)
    old, new = root(leaves[:old_size]), root(leaves)
    assert verify_consistency(old_size, size, old, new, proof)
    changed = data.draw(st.integers(0, old_size - 1))
    forked = [*leaves[:changed], leaf_hash(b"another"), *leaves[changed + 1 : old_size]]
    assert not verify_consistency(old_size, size, root(forked), new, proof)
    assert not verify_consistency(old_size, size, old, root([*leaves, old]), proof)
    assert not verify_consistency(old_size, size, old, new, [*proof, old])


def test_what_does_not_exist_has_no_proof() -> None:
    with pytest.raises(ValueError, match="index"):
        inclusion_proof(log_of(3), 3)
    for old_size in (0, 4):
        with pytest.raises(ValueError, match="old_size"):
            consistency_proof(log_of(3), old_size)
    assert not verify_consistency(2, 3, b"", b"", [])
    assert not verify_consistency(3, 2, b"", b"", [])
