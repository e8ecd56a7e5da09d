"""Find which nodes of two graphs are the same: by name, by what they give, by their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from difflib import SequenceMatcher

from onnx import NodeProto

from onnxprune.ir.graph import op_key

__all__ = ["node_pairs"]

Key = Callable[[NodeProto], Hashable | None]


def node_pairs(before: Sequence[NodeProto], after: Sequence[NodeProto]) -> dict[int, int]:
    """Pair the nodes of two graphs, with the number of the first as key.

    Nodes of different operators are never a pair. Those with the same name are one, then those that
    give the same tensor; what is left is aligned by the order of operators between these.

    Args:
        before: nodes of the first graph, in its order.
        after: nodes of the second.
    """
    pairs: dict[int, int] = {}
    for key in (_by_name, _by_output):
        pairs.update(_unique(before, after, key, pairs))
    return dict(sorted((pairs | _by_place(before, after, pairs)).items()))


def _by_name(node: NodeProto) -> Hashable | None:
    return (op_key(node), node.name) if node.name else None


def _by_output(node: NodeProto) -> Hashable | None:
    first = next((name for name in node.output if name), None)
    return (op_key(node), first) if first else None


def _unique(
    before: Sequence[NodeProto], after: Sequence[NodeProto], key: Key, taken: dict[int, int]
) -> dict[int, int]:
    """Pairs of nodes whose key only they have, of those that have no pair yet."""
    first = _single(before, key, set(taken))
    second = _single(after, key, set(taken.values()))
    return {number: second[found] for found, number in first.items() if found in second}


def _single(nodes: Sequence[NodeProto], key: Key, taken: set[int]) -> dict[Hashable, int]:
    """The number of each node that is not taken, by its key, where no other node has it."""
    keys = {k: key(node) for k, node in enumerate(nodes) if k not in taken}
    count = Counter(keys.values())
    return {found: k for k, found in keys.items() if found is not None and count[found] == 1}


def _by_place(
    before: Sequence[NodeProto], after: Sequence[NodeProto], pairs: dict[int, int]
) -> dict[int, int]:
    """Pairs of the nodes that are left: the same operators in the same order between pairs."""
    back = {b: a for a, b in pairs.items()}
    first = [pairs.get(k, op_key(node)) for k, node in enumerate(before)]
    second = [k if k in back else op_key(node) for k, node in enumerate(after)]
    aligned = SequenceMatcher(None, first, second, autojunk=False)
    found = {}
    for a, b, size in aligned.get_matching_blocks():
        found.update({a + k: b + k for k in range(size) if a + k not in pairs})
    return found
