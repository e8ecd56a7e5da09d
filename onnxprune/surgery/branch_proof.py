"""The paths through a model that the inputs of the proof do not happen to take.

Which branch of an If comes may depend on the data. The proof must hold for every branch, so both
models are also sent through the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.ir import instrument, runtime, subgraphs
from onnxprune.surgery.proof import Outputs, ProofRun, Sides, compare
from onnxprune.types import Node

__all__ = ["paths"]

#: Branches in branches are sent both ways, too; those further inside go as two levels above.
LEVELS = 2


def paths(
    nodes: Sequence[Node], original: ProofRun, pruned: ProofRun, feeds: runtime.Feeds
) -> Iterator[tuple[Sides, Outputs]]:
    """Both models on every path, with the outputs of the original itself.

    Paths on which the original itself fails, or gives NaN, with these inputs are left out. Where
    only the pruned model fails it has no outputs.
    """
    conditions = ops.undecided(nodes)
    depth = subgraphs.depth(original.runner.bare.graph) if conditions else 0
    for ways in product((True, False), repeat=min(depth, LEVELS)) if conditions else ():
        send = partial(instrument.decided, conditions=conditions, ways=ways)
        sent, smaller = original.edited(send), pruned.edited(send)
        try:
            before = sent.run(feeds)
        except InputError:
            continue
        if compare(before, before).passed:
            yield Sides(sent, smaller, feeds, _run(smaller, feeds)), before


def _run(bench: ProofRun, feeds: runtime.Feeds) -> Outputs:
    try:
        return bench.run(feeds)
    except InputError:
        return {}
