"""The paths through a model that the inputs of the proof do not happen to take.

Which branch of an If comes may depend on the data. The proof must hold for every branch, so both
models are also sent through the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product

from onnxprune import bodies, ops, reference, runtime
from onnxprune.errors import InputError
from onnxprune.types import Node
from onnxprune.validate import Bench, Outputs, compare

__all__ = ["paths"]

#: Branches in branches are sent both ways, too; those further inside go as two levels above.
LEVELS = 2


def paths(
    nodes: Sequence[Node], original: Bench, pruned: Bench, feeds: runtime.Feeds
) -> Iterator[tuple[Bench, Bench, Outputs, Outputs]]:
    """Both models on every path, and their outputs.

    Paths on which the original itself fails, or gives NaN, with these inputs are left out. Where
    only the pruned model fails it has no outputs.
    """
    conditions = ops.undecided(nodes)
    depth = bodies.depth(original.runner.bare.graph) if conditions else 0
    for ways in product((True, False), repeat=min(depth, LEVELS)) if conditions else ():
        send = partial(reference.decided, conditions=conditions, ways=ways)
        sent, smaller = original.edited(send), pruned.edited(send)
        try:
            before = sent.run(feeds)
        except InputError:
            continue
        if compare(before, before).passed:
            yield sent, smaller, before, _run(smaller, feeds)


def _run(bench: Bench, feeds: runtime.Feeds) -> Outputs:
    try:
        return bench.run(feeds)
    except InputError:
        return {}
