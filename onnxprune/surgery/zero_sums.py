"""Remove sums with zeros, so that nothing is left of a branch that gives nothing.

x + 0 = x: what makes x makes the sum instead. Between two Relus, max(max(z, 0) + 0, 0) = max(z, 0):
the first one goes too. The sum keeps its name, since what is behind it still computes what it did.
"""

from __future__ import annotations

from collections.abc import Collection

from onnxprune import ops
from onnxprune.ir import edit, graph
from onnxprune.ir.graph import ModelProto

__all__ = ["without_zero_sums"]


def without_zero_sums(model: ModelProto, addends: Collection[str]) -> ModelProto:
    """Remove the sums of some addends that hold nothing but zeros.

    Args:
        model: is not changed.
        addends: names of stored tensors with one reader each, which adds them to a tensor of the
            same shape as the sum.
    """
    read = graph.reader(model)
    zeros = []
    for name in addends:
        values = read(name)
        if values is not None and not values.any():
            zeros.append(name)
    if not zeros:
        return model
    new = ModelProto()
    new.CopyFrom(model)
    for name in zeros:
        _without(new, name)
    return new


def _without(model: ModelProto, addend: str) -> None:
    """Remove one sum in place, where nothing else reads what it adds to."""
    g = model.graph
    uses = edit.used_counts(g)
    makers = {name: node for node in g.node for name in node.output}
    total = next((node for node in g.node if addend in node.input), None)
    if total is None or len(total.input) != 2:
        return
    source = next((name for name in total.input if name != addend), "")
    gone = [total]
    if uses[source] != 1 or source not in makers:
        return
    if ops.rectifies(makers[source].op_type):
        before = makers[source].input[0]
        if uses[before] != 1 or before not in makers or not _rectified(model, total.output[0]):
            return
        gone.append(makers[source])
        source = before
    results = makers[source].output
    results[list(results).index(source)] = total.output[0]
    names = {addend, *(name for node in gone for name in node.output)} - {total.output[0]}
    for node in gone:
        g.node.remove(node)
    for entries in (g.initializer, g.input, g.value_info):
        for entry in [e for e in entries if e.name in {*names, source}]:
            entries.remove(entry)


def _rectified(model: ModelProto, name: str) -> bool:
    """Whether Relus of this graph are all that reads a tensor."""
    relus = sum(ops.rectifies(node.op_type) and name in node.input for node in model.graph.node)
    return 0 < relus == edit.used_counts(model.graph)[name]
