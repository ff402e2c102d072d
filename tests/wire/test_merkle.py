"""The Merkle tree against RFC 9162's definition, other people's vectors, and every altered byte."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import InvalidInput, Malformed, ProofInvalid
from wire.limits import MAX_PROOF_HASHES, MAX_TREE_SIZE
from wire.merkle import (
    EMPTY_ROOT,
    Frontier,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    subtree,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

MAX_LEAVES = 140
LEAVES = [leaf_hash(b"record %d" % position) for position in range(MAX_LEAVES)]
# The eight leaves of the tree in Certificate Transparency's tests, whose roots the vectors use.
CT_LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]


def tree_head(leaves: list[bytes]) -> bytes:
    """MTH as RFC 9162 section 2.1.1 defines it, from leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while 2 * left < len(leaves):
        left *= 2
    return sha256(b"\x01" + tree_head(leaves[:left]) + tree_head(leaves[left:])).digest()


def node(level: int, index: int) -> bytes:
    assert (index + 1) << level <= MAX_LEAVES, "asked for a subtree that is not complete"
    return subtree(level, index, LEAVES.__getitem__)


def frontier_of(leaves: list[bytes]) -> Frontier:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier


# --- vectors ------------------------------------------------------------------------------------------


def load_vectors(*kinds: str) -> list[Any]:
    text = (Path(__file__).parent.parent / "vectors" / "merkle_proofs.json").read_text()
    vectors = [vector for vector in json.loads(text) if vector["file"].split("/")[1] in kinds]
    return [pytest.param(vector, id=vector["file"].removeprefix("testdata/")) for vector in vectors]


def proof_of(vector: dict[str, Any]) -> list[bytes]:
    return [b64decode(step) for step in vector["proof"] or []]


def check_outcome(vector: dict[str, Any], verify: Any, *arguments: Any) -> None:
    if vector["wantErr"]:
        with pytest.raises(ProofInvalid):
            verify(*arguments)
    else:
        verify(*arguments)


@pytest.mark.parametrize("vector", load_vectors("inclusion", "subtreeinclusion"))
def test_inclusion_vector_has_the_stated_outcome(vector: dict[str, Any]) -> None:
    start, end = vector.get("start", 0), vector.get("end", vector.get("treeSize"))
    leaf, root = b64decode(vector["leafHash"]), b64decode(vector["root"])
    check_outcome(vector, verify_inclusion, vector["leafIdx"] - start, end - start, leaf, proof_of(vector), root)


@pytest.mark.parametrize(
    "vector", [v for v in load_vectors("consistency", "subtreeconsistency") if v.values[0].get("start", 0) == 0]
)
def test_consistency_vector_has_the_stated_outcome(vector: dict[str, Any]) -> None:
    size1 = vector["size1"] if "size1" in vector else vector["end"]
    size2 = vector["size2"] if "size2" in vector else vector["size"]
    root1, root2 = b64decode(vector["root1"]), b64decode(vector["root2"])
    check_outcome(vector, verify_consistency, size1, root1, size2, root2, proof_of(vector))


def test_the_vectors_hold_both_outcomes_of_both_proofs() -> None:
    for kind, least in (("inclusion", 60), ("consistency", 50)):
        outcomes = [param.values[0]["wantErr"] for param in load_vectors(kind)]
        assert len(outcomes) >= least
        assert set(outcomes) == {True, False}


def test_the_tree_of_certificate_transparency_has_its_known_roots() -> None:
    frontier = frontier_of([leaf_hash(leaf) for leaf in CT_LEAVES])
    assert frontier.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


# --- frontier -----------------------------------------------------------------------------------------


def test_the_frontier_has_the_root_of_the_definition_at_every_size() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for size, leaf in enumerate(LEAVES, start=1):
        frontier.append(leaf)
        assert frontier.size == size
        assert frontier.root() == tree_head(LEAVES[:size])


def test_a_frontier_is_written_as_its_nodes_largest_first() -> None:
    assert Frontier().encode() == b"" and Frontier.decode(0, b"").root() == EMPTY_ROOT
    frontier = frontier_of(LEAVES[:7])
    encoded = tree_head(LEAVES[:4]) + tree_head(LEAVES[4:6]) + LEAVES[6]
    assert frontier.encode() == encoded
    decoded = Frontier.decode(7, encoded)
    assert (decoded.size, decoded.nodes) == (7, frontier.nodes)


@given(size=st.integers(0, MAX_LEAVES - 1))
def test_a_decoded_frontier_goes_on_like_the_original(size: int) -> None:
    frontier = frontier_of(LEAVES[:size])
    decoded = Frontier.decode(size, frontier.encode())
    assert (decoded.size, decoded.nodes) == (frontier.size, frontier.nodes)
    decoded.append(LEAVES[size])
    assert decoded.root() == tree_head(LEAVES[: size + 1])


def test_a_copied_frontier_is_independent() -> None:
    frontier = frontier_of(LEAVES[:7])
    copy = frontier.copy()
    copy.append(LEAVES[7])
    assert (frontier.size, frontier.root()) == (7, tree_head(LEAVES[:7]))
    assert (copy.size, copy.root()) == (8, tree_head(LEAVES[:8]))


@pytest.mark.parametrize(("size", "length"), [(0, 32), (1, 0), (1, 31), (1, 33), (3, 32), (4, 64), (-1, 32)])
def test_bytes_that_are_no_frontier_of_this_size_are_malformed(size: int, length: int) -> None:
    with pytest.raises(Malformed):
        Frontier.decode(size, bytes(length))


@pytest.mark.parametrize(
    ("size", "nodes"),
    [
        (0, [bytes(32)]),
        (2, []),
        (3, [bytes(32)]),
        (3, [bytes(31), bytes(33)]),
        (-1, [bytes(32)]),
        (MAX_TREE_SIZE + 1, [bytes(32)]),
    ],
)
def test_nodes_that_do_not_fit_the_size_are_malformed(size: int, nodes: list[bytes]) -> None:
    with pytest.raises(Malformed):
        Frontier(size, nodes)


@given(level=st.integers(0, 7), data=st.data())
def test_a_subtree_is_the_tree_head_of_its_leaves(level: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, (MAX_LEAVES >> level) - 1))
    assert node(level, index) == tree_head(LEAVES[index << level : (index + 1) << level])


# --- proofs -------------------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, MAX_LEAVES), st.integers(1, MAX_LEAVES)).map(sorted)
PLACES = st.integers(1, MAX_LEAVES).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))


@given(sizes=SIZES)
def test_every_consistency_proof_that_we_make_holds(sizes: list[int]) -> None:
    size1, size2 = sizes
    proof = prove_consistency(size1, size2, node)
    verify_consistency(size1, tree_head(LEAVES[:size1]), size2, tree_head(LEAVES[:size2]), proof)


@given(place=PLACES)
def test_every_inclusion_proof_that_we_make_holds(place: tuple[int, int]) -> None:
    index, size = place
    verify_inclusion(index, size, LEAVES[index], prove_inclusion(index, size, node), tree_head(LEAVES[:size]))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 16, 17, 21])
def test_every_place_of_a_small_tree_has_one_proof_and_no_other_holds(size: int) -> None:
    root = tree_head(LEAVES[:size])
    assert tree_root(size, node) == root
    for index in range(size):
        proof = prove_inclusion(index, size, node)
        verify_inclusion(index, size, LEAVES[index], proof, root)
        others = [(index, LEAVES[index], [*proof, LEAVES[0]]), (index, LEAVES[index + 1], proof)]
        others += [(other, LEAVES[index], proof) for other in range(-1, size + 1) if other != index]
        others += [(index, LEAVES[index], proof[:cut]) for cut in range(len(proof))]
        for at, leaf, wrong in others:
            with pytest.raises(ProofInvalid):
                verify_inclusion(at, size, leaf, wrong, root)


@pytest.mark.parametrize("size2", [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 16, 17, 21])
def test_every_two_sizes_of_a_small_tree_have_one_proof_and_no_other_holds(size2: int) -> None:
    root2 = tree_head(LEAVES[:size2])
    for size1 in range(1, size2 + 1):
        root1 = tree_head(LEAVES[:size1])
        proof = prove_consistency(size1, size2, node)
        verify_consistency(size1, root1, size2, root2, proof)
        others = [(size1, root1, root2, [*proof, LEAVES[0]]), (size1, LEAVES[-1], root2, proof)]
        others += [(size1, root1, LEAVES[-1], proof)]
        others += [(size1, root1, root2, proof[:cut]) for cut in range(len(proof))]
        others += [(other, root1, root2, proof) for other in range(size2 + 2) if tree_head(LEAVES[:other]) != root1]
        for size, first, second, wrong in others:
            with pytest.raises(ProofInvalid):
                verify_consistency(size, first, size2, second, wrong)


def test_the_bounds_of_a_tree_belong_to_it() -> None:
    assert Frontier(MAX_TREE_SIZE, [LEAVES[0]] * 63).size == MAX_TREE_SIZE
    assert Frontier.decode(MAX_TREE_SIZE, LEAVES[0] * 63).nodes == [LEAVES[0]] * 63
    with pytest.raises(Malformed):
        Frontier.decode(MAX_TREE_SIZE + 1, LEAVES[0])
    assert tree_root(0, node) == EMPTY_ROOT
    verify_consistency(MAX_TREE_SIZE, LEAVES[0], MAX_TREE_SIZE, LEAVES[0], [])
    with pytest.raises(ProofInvalid):
        verify_consistency(MAX_TREE_SIZE + 1, LEAVES[0], MAX_TREE_SIZE + 1, LEAVES[0], [])
    with pytest.raises(ProofInvalid):
        verify_consistency(0, LEAVES[0], 0, LEAVES[0], [])

    def sparse(level: int, index: int) -> bytes:
        return sha256(b"%d %d" % (level, index)).digest()

    assert len(prove_inclusion(MAX_TREE_SIZE - 1, MAX_TREE_SIZE, sparse)) == 62
    assert prove_consistency(MAX_TREE_SIZE, MAX_TREE_SIZE, sparse) == []


@settings(max_examples=25)
@given(sizes=SIZES, flip=st.integers(1, 255))
def test_a_consistency_proof_with_any_altered_byte_fails(sizes: list[int], flip: int) -> None:
    size1, size2 = sizes
    hashes = [tree_head(LEAVES[:size1]), tree_head(LEAVES[:size2]), *prove_consistency(size1, size2, node)]
    for position in range(32 * len(hashes)):
        root1, root2, *proof = alter(hashes, position, flip)
        with pytest.raises(ProofInvalid):
            verify_consistency(size1, root1, size2, root2, proof)


@settings(max_examples=25)
@given(place=PLACES, flip=st.integers(1, 255))
def test_an_inclusion_proof_with_any_altered_byte_fails(place: tuple[int, int], flip: int) -> None:
    index, size = place
    hashes = [tree_head(LEAVES[:size]), LEAVES[index], *prove_inclusion(index, size, node)]
    for position in range(32 * len(hashes)):
        root, leaf, *proof = alter(hashes, position, flip)
        with pytest.raises(ProofInvalid):
            verify_inclusion(index, size, leaf, proof, root)


def alter(hashes: list[bytes], position: int, flip: int) -> list[bytes]:
    altered = bytearray(b"".join(hashes))
    altered[position] ^= flip
    return [bytes(altered[start : start + 32]) for start in range(0, len(altered), 32)]


@given(sizes=SIZES, data=st.data())
def test_no_history_that_differs_before_the_first_size_is_consistent(sizes: list[int], data: st.DataObject) -> None:
    size1, size2 = sizes
    fork = list(LEAVES[:size2])
    fork[data.draw(st.integers(0, size1 - 1))] = leaf_hash(b"another record")
    proof = prove_consistency(size1, size2, lambda level, index: subtree(level, index, fork.__getitem__))
    with pytest.raises(ProofInvalid):
        verify_consistency(size1, tree_head(LEAVES[:size1]), size2, tree_head(fork), proof)


def test_hashes_whose_border_was_moved_are_refused() -> None:
    left, right = LEAVES[:2]
    root = node_hash(left, right)
    verify_inclusion(1, 2, right, [left], root)
    with pytest.raises(ProofInvalid):
        verify_inclusion(1, 2, right[1:], [left + right[:1]], root)
    root3 = node_hash(root, LEAVES[2])
    verify_consistency(2, root, 3, root3, [LEAVES[2]])
    with pytest.raises(ProofInvalid):
        verify_consistency(2, root + LEAVES[2][:1], 3, root3, [LEAVES[2][1:]])


def test_the_largest_tree_needs_no_more_hashes_than_a_proof_may_have() -> None:
    def sparse(level: int, index: int) -> bytes:
        return sha256(b"%d %d" % (level, index)).digest()

    inclusion = prove_inclusion(0, MAX_TREE_SIZE, sparse)
    assert len(inclusion) <= MAX_PROOF_HASHES
    consistency = prove_consistency((1 << 62) - 1, MAX_TREE_SIZE, sparse)
    assert len(consistency) <= MAX_PROOF_HASHES
    too_long = [bytes(32)] * (MAX_PROOF_HASHES + 1)
    with pytest.raises(ProofInvalid, match=f"at most {MAX_PROOF_HASHES}"):
        verify_inclusion(0, MAX_TREE_SIZE, sparse(0, 0), too_long, bytes(32))
    with pytest.raises(ProofInvalid, match=f"at most {MAX_PROOF_HASHES}"):
        verify_consistency(1, bytes(32), MAX_TREE_SIZE, bytes(32), too_long)


def test_the_longest_proofs_of_the_largest_tree_hold() -> None:
    leaf, path = LEAVES[0], LEAVES[1:64]  # 63 levels, of which the first leaf is on the left at each
    root = leaf
    for step in path:
        root = node_hash(root, step)
    verify_inclusion(0, MAX_TREE_SIZE, leaf, path, root)
    # One leaf less than the left half of it: the proof begins with the last leaf of the smaller tree, and then has one
    # hash for each level. Of those, all but the first and the last lie in the smaller tree too.
    last, sibling, *inside, above = LEAVES[:64]
    root1, root2 = last, node_hash(last, sibling)
    for step in inside:
        root1, root2 = node_hash(step, root1), node_hash(step, root2)
    proof = [last, sibling, *inside, above]
    assert len(proof) == MAX_PROOF_HASHES
    verify_consistency((1 << 62) - 1, root1, MAX_TREE_SIZE, node_hash(root2, above), proof)


def test_a_proof_that_climbs_to_a_node_above_the_root_is_refused() -> None:
    above = LEAVES[9]
    root2, root3 = tree_head(LEAVES[:2]), tree_head(LEAVES[:3])
    inclusion, consistency = prove_inclusion(1, 3, node), prove_consistency(2, 3, node)
    with pytest.raises(ProofInvalid):
        verify_inclusion(1, 3, LEAVES[1], [*inclusion, above], node_hash(above, root3))
    with pytest.raises(ProofInvalid):
        verify_consistency(2, node_hash(above, root2), 3, node_hash(above, root3), [*consistency, above])
    # Three leaves are not a complete tree, so the walk to the first root really takes the added step.
    consistency = prove_consistency(3, 4, node)
    root4 = tree_head(LEAVES[:4])
    verify_consistency(3, root3, 4, root4, consistency)
    with pytest.raises(ProofInvalid):
        verify_consistency(3, node_hash(above, root3), 4, node_hash(above, root4), [*consistency, above])


HASHES = st.sampled_from([*LEAVES[:4], b"", bytes(31), bytes(33)]) | st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(-3, 40) | st.sampled_from([MAX_TREE_SIZE, MAX_TREE_SIZE + 1, 1 << 64, 1 << 200])


@given(size1=NUMBERS, root1=HASHES, size2=NUMBERS, root2=HASHES, proof=st.lists(HASHES, max_size=70))
def test_checking_any_proof_raises_nothing_but_proof_invalid(
    size1: int, root1: bytes, size2: int, root2: bytes, proof: list[bytes]
) -> None:
    # The only claims that random parts can make true are the trivial ones, with an empty proof.
    with suppress(ProofInvalid):
        verify_consistency(size1, root1, size2, root2, proof)
        assert (size1, root1, proof) == (size2, root2, [])
    with suppress(ProofInvalid):
        verify_inclusion(size1, size2, root1, proof, root2)
        assert (size1, size2, root1, proof) == (0, 1, root2, [])


def test_a_proof_from_the_empty_tree_is_refused_on_both_sides() -> None:
    with pytest.raises(ProofInvalid):
        verify_consistency(0, EMPTY_ROOT, 1, LEAVES[0], [])
    with pytest.raises(InvalidInput):
        prove_consistency(0, 1, node)
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (0, MAX_TREE_SIZE + 1)])
def test_no_inclusion_proof_is_made_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(InvalidInput):
        prove_inclusion(index, size, node)


@pytest.mark.parametrize(("size1", "size2"), [(2, 1), (-1, 1), (1, MAX_TREE_SIZE + 1)])
def test_no_consistency_proof_is_made_for_sizes_that_do_not_grow(size1: int, size2: int) -> None:
    with pytest.raises(InvalidInput):
        prove_consistency(size1, size2, node)
