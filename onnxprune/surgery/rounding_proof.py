"""Proof for models that round on their way, between one rounding and the next.

Rounding turns a difference in the last bit, from sums in another order, into a whole step, and the
next layers carry it on. So both models are looked at where values are about to be rounded. These
must agree within the usual tolerance; then the pruned model goes on from the values of the
reference. Each piece computes what it should from what it should get, and so does the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import instrument
from onnxprune.surgery.proof import Proof, Sides, compare
from onnxprune.surgery.rewrite import masked
from onnxprune.types import Axis, Node, Plan, Tensor

__all__ = ["prove_between"]


def prove_between(
    analysis: Analysis, plan: Plan, sides: Sides, zeroed: bool = True
) -> Proof | None:
    """Compare outputs and all that is about to be rounded; None for a model that never rounds.

    Args:
        analysis: the original.
        plan: what was cut.
        sides: both models.
        zeroed: the reference has zeros where something was cut, else it is the original itself.
    """
    # what bodies of If, Loop and Scan compute cannot be looked at from outside
    made = {name for node in analysis.model.graph.node for name in node.output}
    looks = [t for t in _rounded(analysis.nodes) if t.name in made and not _free(t, plan)]
    if not looks:
        return None
    names = [tensor.name for tensor in looks]
    original, feeds = sides.reference, sides.inputs
    whole = original.edited(partial(instrument.shown, names=names))
    proof = Proof(np.inf, False)
    # without zeros as they are; the second mask is for graphs that divide by dead channels
    masks = [masked(original.read, analysis.nodes, plan, only)
             for only in (None, analysis.roles.reads)] if zeroed else [original.read]  # fmt: skip
    for read in masks:
        seen = dict(whole.run(feeds, read, plan if zeroed else None))
        for tensor in looks:
            for axis in range(tensor.rank):
                kept = plan.keep.get(tensor.at(axis))
                if kept is not None:
                    seen[tensor.name] = np.take(seen[tensor.name], kept, axis)
        given = {name: seen[name] for name in names if seen[name].dtype.kind == "f"}
        kinds = {name: value.dtype for name, value in given.items()}
        piecewise = sides.pruned.edited(
            partial(instrument.handed_over, kinds=kinds, readers=ops.JUMPS)
        )
        result = piecewise.run({**feeds, **{instrument.given(n): v for n, v in given.items()}})
        proof = compare({name: seen[name] for name in result}, result)
        if not np.isnan(proof.max_relative_error):
            break
    return replace(proof, reference="masked " * zeroed + "original between roundings")


def _rounded(nodes: Sequence[Node]) -> list[Tensor]:
    """Activations that operators with jumps read."""
    read = (t for n in nodes if n.op in ops.JUMPS for t in n.inputs if t is not None)
    return list({t.name: t for t in read if not t.constant and t.rank >= 0}.values())


def _free(tensor: Tensor, plan: Plan) -> bool:
    """Whether positions on some axis differ from head to head, so that none can be named."""
    return any(Axis(tensor.name, axis) in plan.nominal for axis in range(tensor.rank))
