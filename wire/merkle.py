"""The Merkle tree over all records of a store: hashes, frontier, inclusion and consistency proofs.

Source: RFC 9162 section 2.1 (the same tree as RFC 6962). A leaf hash is ``SHA-256(0x00 ‖ data)``, an inner
node is ``SHA-256(0x01 ‖ left ‖ right)``; the left subtree of n leaves holds the largest power of two below n.

The enclave keeps only the :class:`Frontier`. The host keeps the leaf hashes and makes the proofs, which
anybody checks with nothing but two roots. All hashes are 32 bytes; sizes and indexes count leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final

from wire.crypto import HASH_BYTES
from wire.errors import InvalidInput, Malformed, ProofInvalid
from wire.limits import MAX_PROOF_HASHES, MAX_TREE_SIZE

EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of the tree without leaves."""

Node = Callable[[int, int], bytes]
"""``node(level, index)``: root of the complete subtree of ``2**level`` leaves from leaf ``index * 2**level`` on."""


def leaf_hash(data: bytes | memoryview) -> bytes:
    """The hash of one leaf's content."""
    digest = sha256(b"\x00")
    digest.update(data)  # not joined: a record can be large
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node from its two children."""
    return sha256(b"\x01" + left + right).digest()


def _fold(nodes: Sequence[bytes]) -> bytes:
    """The root over adjacent complete subtrees, largest first; at least one."""
    root = nodes[-1]
    for left in nodes[-2::-1]:
        root = sha256(b"\x01" + left + root).digest()
    return root


class Frontier:
    """The roots of the complete subtrees that the first ``size`` leaves fall into, largest first.

    One node for each bit that is set in ``size``: enough to append and to compute the root, O(log size) bytes.
    """

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        """Raises :class:`Malformed` when ``nodes`` are not the number and length that ``size`` asks for."""
        self.size: int = size
        self.nodes: list[bytes] = list(nodes)
        if not 0 <= size <= MAX_TREE_SIZE:
            raise Malformed(f"no tree has {size} leaves")
        if len(self.nodes) != size.bit_count():
            raise Malformed(f"{len(self.nodes)} frontier nodes where {size} leaves have {size.bit_count()}")
        if any(len(node) != HASH_BYTES for node in self.nodes):
            raise Malformed(f"a frontier node is not {HASH_BYTES} bytes long")

    def append(self, leaf_hash: bytes) -> None:
        """Add the next leaf: one hash on average, O(log size) at most."""
        assert len(leaf_hash) == HASH_BYTES
        nodes = self.nodes
        merges = self.size
        while merges & 1:  # each trailing 1 bit is a subtree as large as the new one: join the two
            leaf_hash = sha256(b"\x01" + nodes.pop() + leaf_hash).digest()
            merges >>= 1
        nodes.append(leaf_hash)
        self.size += 1

    def root(self) -> bytes:
        """The root of the tree of the first ``size`` leaves."""
        return _fold(self.nodes) if self.nodes else EMPTY_ROOT

    def encode(self) -> bytes:
        """The nodes, concatenated, largest first. The size is not in it."""
        return b"".join(self.nodes)

    @classmethod
    def decode(cls, size: int, data: bytes) -> Frontier:
        """Undo :meth:`encode`. Raises :class:`Malformed`."""
        return cls(size, [data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)])

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        return Frontier(self.size, self.nodes)


# --- checking proofs ----------------------------------------------------------------------------------


def _check_shape(proof: Sequence[bytes]) -> None:
    """Bound the proof, and let it hold nothing but whole hashes (31 ‖ 33 bytes would read as 32 ‖ 32)."""
    if len(proof) > MAX_PROOF_HASHES:
        raise ProofInvalid(f"{len(proof)} hashes where at most {MAX_PROOF_HASHES} are allowed")
    if any(len(step) != HASH_BYTES for step in proof):
        raise ProofInvalid(f"a hash in the proof is not {HASH_BYTES} bytes long")


def verify_inclusion(index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that leaf ``index`` (from 0) of the tree of ``size`` leaves with ``root`` is ``leaf_hash``.

    Source: RFC 9162 section 2.1.3.2. The proof does not show ``size``: take it from where ``root`` came from.

    Raises:
        ProofInvalid: it does not hold, or its shape is not that of a proof for this place.
    """
    _check_shape(proof)
    if len(leaf_hash) != HASH_BYTES:
        raise ProofInvalid(f"a leaf hash is {HASH_BYTES} bytes long")
    if not 0 <= index < size <= MAX_TREE_SIZE:
        raise ProofInvalid(f"a tree of {size} leaves has no leaf {index}")
    place, last, computed = index, size - 1, leaf_hash
    for step in proof:
        if last == 0:
            raise ProofInvalid("the proof goes on above the root")
        if place & 1 or place == last:
            computed = node_hash(step, computed)
            while not place & 1 and place:  # the right edge: levels at which this subtree has no sibling
                place >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, step)
        place >>= 1
        last >>= 1
    if last != 0:
        raise ProofInvalid("the proof ends below the root")
    if computed != root:
        raise ProofInvalid("the proof leads to another root")


def verify_consistency(size1: int, root1: bytes, size2: int, root2: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (``size2``, ``root2``) begins with all leaves of the tree (``size1``, ``root1``).

    Source: RFC 9162 section 2.1.4.2. As there, ``size1`` is positive unless the sizes are equal: every tree
    extends the empty one, so such a proof says nothing. For equal sizes the proof is empty.

    Raises:
        ProofInvalid: it does not hold, or its shape is not that of a proof for these sizes.
    """
    _check_shape(proof)
    if not 0 <= size1 <= size2 <= MAX_TREE_SIZE:
        raise ProofInvalid(f"a tree of {size2} leaves does not extend one of {size1}")
    if size1 == size2:
        if proof or root1 != root2 or (size1 == 0 and root1 != EMPTY_ROOT):
            raise ProofInvalid("trees of one size are consistent only if their roots are equal")
        return
    if size1 == 0:
        raise ProofInvalid("nothing can be proved about the empty tree")
    if not proof:
        raise ProofInvalid("trees of two sizes need a proof")
    # A complete first tree is itself the subtree that both walks start from, so the proof leaves it out.
    start, steps = (root1, proof) if size1.bit_count() == 1 else (proof[0], proof[1:])
    computed1, computed2 = _walk_both(size1, size2, start, steps)
    if computed1 != root1:
        raise ProofInvalid("the proof leads to another first root")
    if computed2 != root2:
        raise ProofInvalid("the proof leads to another second root")


def _walk_both(size1: int, size2: int, start: bytes, steps: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Climb from the subtree ``start`` to the roots of both trees. ``0 < size1 < size2``."""
    last1, last2 = size1 - 1, size2 - 1
    while last1 & 1:
        last1 >>= 1
        last2 >>= 1
    computed1 = computed2 = start
    for step in steps:
        if last2 == 0:
            raise ProofInvalid("the proof goes on above the root")
        if last1 & 1 or last1 == last2:
            computed1 = node_hash(step, computed1)
            computed2 = node_hash(step, computed2)
            while not last1 & 1 and last1:
                last1 >>= 1
                last2 >>= 1
        else:
            computed2 = node_hash(computed2, step)
        last1 >>= 1
        last2 >>= 1
    if last2 != 0:
        raise ProofInvalid("the proof ends below the root")
    return computed1, computed2


# --- making proofs ------------------------------------------------------------------------------------


def subtree(level: int, index: int, leaf: Callable[[int], bytes]) -> bytes:
    """Compute ``node(level, index)`` from leaf hashes: ``2**level`` calls of ``leaf(position)``, O(level) memory."""
    frontier = Frontier()
    for position in range(index << level, (index + 1) << level):
        frontier.append(leaf(position))
    return frontier.nodes[0]


def _range_root(start: int, end: int, node: Node) -> bytes:
    """The root over the leaves ``start <= position < end`` that lie under one inner node."""
    complete = []
    while start < end:
        level = (end - start).bit_length() - 1
        complete.append(node(level, start >> level))
        start += 1 << level
    return _fold(complete)


def tree_root(size: int, node: Node) -> bytes:
    """The root over the first ``size`` leaves, O(log size) calls of ``node``."""
    return _range_root(0, size, node) if size else EMPTY_ROOT


def _split(start: int, end: int) -> int:
    """Where the right subtree of the (at least two) leaves from ``start`` to ``end`` begins."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def prove_inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """The hashes, leaf to root, that show leaf ``index`` of the first ``size`` leaves. O(log size) calls of ``node``.

    Source: RFC 9162 section 2.1.3.1.

    Raises:
        InvalidInput: the tree has no such leaf.
    """
    if not 0 <= index < size <= MAX_TREE_SIZE:
        raise InvalidInput(f"a tree of {size} leaves has no leaf {index}")
    proof = []
    start, end = 0, size
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            proof.append(_range_root(middle, end, node))
            end = middle
        else:
            proof.append(_range_root(start, middle, node))
            start = middle
    proof.reverse()
    return proof


def prove_consistency(size1: int, size2: int, node: Node) -> list[bytes]:
    """The hashes that show that the first ``size2`` leaves begin with the first ``size1``. O(log size2) ``node`` calls.

    Source: RFC 9162 section 2.1.4.1. Equal sizes give the empty proof.

    Raises:
        InvalidInput: not ``0 < size1 <= size2``.
    """
    if not 0 < size1 <= size2 <= MAX_TREE_SIZE:
        raise InvalidInput(f"no consistency proof leads from {size1} to {size2} leaves")
    proof = []
    start, end = 0, size2
    while size1 != end:
        middle = _split(start, end)
        if size1 <= middle:
            proof.append(_range_root(middle, end, node))
            end = middle
        else:
            proof.append(_range_root(start, middle, node))
            start = middle
    if start:  # otherwise this subtree is the whole first tree, whose root the verifier has
        proof.append(_range_root(start, end, node))
    proof.reverse()
    return proof
