"""Merkle trees, inclusion proofs and consistency proofs of RFC 6962, section 2.1.

All functions are pure and take *leaf hashes* (`leaf_hash`) in the order of the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of the log."""
    return prefix_roots(leaves)[-1]


def prefix_roots(leaves: Sequence[bytes]) -> list[bytes]:
    """The roots of the log at every size from 0 to ``len(leaves)``, in O(n log n)."""
    roots, stack = [EMPTY_ROOT], list[tuple[int, bytes]]()  # complete subtrees: (leaves, hash)
    for leaf in leaves:
        size, merged = 1, leaf
        while stack and stack[-1][0] == size:
            size, merged = 2 * size, node_hash(stack.pop()[1], merged)
        stack.append((size, merged))
        top = stack[-1][1]
        for _, left in reversed(stack[:-1]):
            top = node_hash(left, top)
        roots.append(top)
    return roots


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(index, leaves): what `verify_inclusion` needs beside the leaf and the root.

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"index must be in [0, {len(leaves)}), got {index}")
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_proof(leaves[:k], index), root(leaves[k:])]
    return [*inclusion_proof(leaves[k:], index - k), root(leaves[:k])]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> bool:
    """Whether `proof` shows that `leaf` is entry `index` of the log of `size` with that root."""
    if not 0 <= index < size:
        return False
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position % 2 or position == last:
            found = node_hash(sibling, found)
            while position % 2 == 0 and position:
                position, last = position // 2, last // 2
        else:
            found = node_hash(found, sibling)
        position, last = position // 2, last // 2
    return last == 0 and found == expected_root


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """PROOF(old_size, leaves): shows that the log of `old_size` is a prefix of this one.

    Raises:
        ValueError: `old_size` is not in [1, len(leaves)].
    """
    if not 1 <= old_size <= len(leaves):
        raise ValueError(f"old_size must be in [1, {len(leaves)}], got {old_size}")
    return _subproof(leaves, old_size, is_whole=True)


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether `proof` shows that the old log is a prefix of the new one."""
    if not 1 <= old_size <= new_size:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    nodes = list(proof)
    if old_size & (old_size - 1) == 0:  # a complete subtree: its own root opens the proof
        nodes.insert(0, old_root)
    if not nodes:
        return False
    position, last = old_size - 1, new_size - 1
    while position % 2:
        position, last = position // 2, last // 2
    old = new = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            return False
        if position % 2 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while position % 2 == 0 and position:
                position, last = position // 2, last // 2
        else:
            new = node_hash(new, sibling)
        position, last = position // 2, last // 2
    return last == 0 and old == old_root and new == new_root


def _subproof(leaves: Sequence[bytes], old_size: int, *, is_whole: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if is_whole else [root(leaves)]
    k = _split(len(leaves))
    if old_size <= k:
        return [*_subproof(leaves[:k], old_size, is_whole=is_whole), root(leaves[k:])]
    return [*_subproof(leaves[k:], old_size - k, is_whole=False), root(leaves[:k])]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
