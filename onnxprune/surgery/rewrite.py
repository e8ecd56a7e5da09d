"""A plan becomes a smaller model, or a model of the old size with the removed positions zeroed.

Both read the same plan, and both must compute the same: that is the proof.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.ir import edit as editing
from onnxprune.ir import external_data, graph
from onnxprune.ir.graph import ModelProto
from onnxprune.ops import dequantize
from onnxprune.surgery.reported_sizes import asked_for
from onnxprune.surgery.widths_divided import carried, readers_of
from onnxprune.types import Axis, Edit, Ints, Node, Plan, Read, Tensor

__all__ = ["masked", "masked_weights", "rewrite", "with_zeros"]


def rewrite(
    model: ModelProto,
    nodes: Sequence[Node],
    plan: Plan,
    read: Read | None = None,
    scratch: Path | None = None,
) -> ModelProto:
    """The model with every removed position gone: weights, attributes, shape constants, sizes.

    Positions that a plan adds are zeros, but in what divides, which repeats its last one.

    `read` gives the model's stored tensors, if they have been taken out of it already; `scratch`
    is the folder that takes what is left of external ones.
    """
    content = read or graph.reader(model)
    by_tensor = _by_tensor(plan)
    names = graph.constants(model).keys() & by_tensor.keys()
    fixed = dequantize.fixed(nodes)
    changed = {
        name: lambda n: editing.kept_rows(content(n), by_tensor[n], n in fixed) for name in names
    }
    sizes = {
        name: {axis: len(kept) for axis, kept in axes.items()} for name, axes in by_tensor.items()
    }
    ends = {value.name for value in model.graph.output}
    readers = readers_of(nodes)
    edits = asked_for(_edits(nodes, by_tensor), readers, by_tensor, ends)
    edits = carried(edits, readers, ends)
    with external_data.spill(scratch) as put:
        return editing.rebuild(model, changed, edits, sizes, put)


def _by_tensor(plan: Plan) -> dict[str, dict[int, Ints]]:
    found: dict[str, dict[int, Ints]] = defaultdict(dict)
    for axis, kept in plan.keep.items():
        found[axis.tensor][axis.axis] = kept
    return dict(found)


def _edits(
    nodes: Sequence[Node], by_tensor: Mapping[str, Mapping[int, Ints]]
) -> Iterator[editing.NodeEdit]:
    def kept(tensor: Tensor, axis: int) -> Ints:
        at = tensor.at(axis)
        whole = np.arange(tensor.size(axis) or 0)
        return by_tensor.get(at.tensor, {}).get(at.axis, whole)

    for node in nodes:
        shrink = ops.SHRINKS.get(node.op)
        if shrink and any(t.name in by_tensor for t in (*node.inputs, *node.outputs) if t):
            edit = shrink(node, kept)
            if edit != Edit():
                yield editing.NodeEdit(node, edit)


def masked(
    read: Read,
    nodes: Sequence[Node],
    plan: Plan,
    only: Collection[Axis] | None = None,
) -> Read:
    """Stored weights of the original with every removed position zeroed, as a reader of them.

    A quantised weight is zeroed with its zero point. What divides (a variance, the second operand
    of Div) keeps its value: it would turn the dead channel's zeros into NaN, and the channel's
    readers are zero anyway. `only` names the axes to zero instead of all.
    """
    by_tensor = _by_tensor(plan)
    if only is not None:
        by_tensor = _by_tensor(Plan({a: k for a, k in plan.keep.items() if a in only}, plan.size))
    fixed, zeros = dequantize.fixed(nodes), dequantize.zeros(nodes, read)

    def zeroed(name: str) -> NDArray[Any] | None:
        values = read(name)
        if values is None or name in fixed or name not in by_tensor:
            return values
        return with_zeros(values, zeros(name), by_tensor[name])

    return zeroed


def masked_weights(read: Read, nodes: Sequence[Node], plan: Plan) -> dict[str, NDArray[Any]]:
    """The content of every stored weight that a plan touches, removed positions zeroed."""
    zeroed = masked(read, nodes, plan)
    found = {axis.tensor: zeroed(axis.tensor) for axis in plan.keep}
    return {name: values for name, values in found.items() if values is not None}


def with_zeros(
    values: NDArray[Any], zero: NDArray[Any] | None, keep: Mapping[int, Ints]
) -> NDArray[Any]:
    """`values` with `zero`, or 0, at all positions that are not kept on some axis.

    An array that can be written to is changed in place, a copy of any other.
    """
    values = values if values.flags.writeable else values.copy()
    for axis, kept in keep.items():
        dead = np.ones(values.shape[axis], bool)
        dead[kept] = False
        where = (slice(None),) * axis + (dead,)
        values[where] = 0 if zero is None else np.broadcast_to(zero, values.shape)[where]
    return values
