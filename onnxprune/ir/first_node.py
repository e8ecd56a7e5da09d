"""Put one operator right behind an input, and replace operators by others of the same result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto

from onnxprune.ir import edit, graph, subgraphs

__all__ = ["Change", "opened_axes", "replaced_operators", "with_first", "with_operator_before"]


def with_first(
    model: ModelProto,
    name: str,
    op: str,
    stored: Sequence[NDArray[Any] | None],
    attrs: Mapping[str, Any],
) -> ModelProto:
    """A copy in which everything that read input `name` reads what `op` makes of it.

    Args:
        model: in which no name of a tensor begins with that of the result.
        name: of the input.
        op: an operator of onnx.
        stored: its further inputs, None where one is omitted.
        attrs: its attributes.
    """
    new = _copy(model)
    result = subgraphs.unused_name(new.graph, f"{name}_extent")
    for node in new.graph.node:
        _rename(node, name, result)
    inputs = [name]
    for number, value in enumerate(stored, 1):
        inputs.append("" if value is None else f"{result}_{number}")
        if value is not None:
            new.graph.initializer.append(onnx.numpy_helper.from_array(value, inputs[-1]))
    first = onnx.helper.make_node(op, inputs, [result], name=result, **attrs)
    new.graph.node.insert(0, first)
    graph.list_stored(new)
    return new


def with_operator_before(
    model: ModelProto, reader: str, read: str, change: Change, sizes: Mapping[str, int]
) -> ModelProto:
    """A copy in which one node reads what an operator makes of what it read.

    Args:
        model: what is copied.
        reader: first result of the node.
        read: what it reads.
        change: the operator, with what is stored as its further inputs.
        sizes: by name of a tensor behind it the size of its last axis but one, if it is declared.
    """
    new = _copy(model)
    result = subgraphs.unused_name(new.graph, f"{reader}/read")
    inputs = [read, *(f"{result}_{number}" for number, _ in enumerate(change.stored, 1))]
    for name, value in zip(inputs[1:], change.stored, strict=True):
        assert value is not None
        new.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    at = next(k for k, node in enumerate(new.graph.node) if reader in node.output)
    node = new.graph.node[at]
    node.input[:] = [result if name == read else name for name in node.input]
    first = onnx.helper.make_node(change.op, inputs, [result], name=result, **change.attrs)
    new.graph.node.insert(at, first)
    for value in (*new.graph.value_info, *new.graph.output):
        shape = value.type.tensor_type.shape
        if value.name in sizes and len(shape.dim) > 1:
            shape.dim[-2].Clear()
            shape.dim[-2].dim_value = sizes[value.name]
    graph.list_stored(new)
    return new


def _rename(node: NodeProto, old: str, new: str) -> None:
    """Let a node, and the graphs that it holds, read another tensor."""
    for k, name in enumerate(node.input):
        if name == old:
            node.input[k] = new
    for inner in (*(body for _, body in subgraphs.bodies(node)), *subgraphs.hidden(node)):
        for output in inner.output:
            if output.name == old:
                output.name = new
        for other in inner.node:
            _rename(other, old, new)


def opened_axes(
    model: ModelProto, shapes: Mapping[str, Sequence[int]], name: str, axes: Collection[int]
) -> ModelProto:
    """A copy whose inputs have given shapes, but for axes of one that may have any size.

    Args:
        model: what is copied; its outputs state no shapes any more.
        shapes: of all inputs by name.
        name: of the input with free axes.
        axes: of that input, each with a size of its own.
    """
    new = _copy(model)
    for value in graph.graph_inputs(new):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.Clear()
            if value.name == name and axis in axes:
                dim.dim_param = f"{name}_{axis}"
            else:
                dim.dim_value = shapes[value.name][axis]
    for output in new.graph.output:
        output.type.tensor_type.ClearField("shape")
    return new


class Change(NamedTuple):
    """What a node becomes: its operator, what is stored as its further inputs, its attributes."""

    op: str
    stored: Sequence[NDArray[Any] | None]
    attrs: Mapping[str, Any]


def replaced_operators(model: ModelProto, changes: Mapping[str, Change]) -> ModelProto:
    """A copy with other operators: by the first output of a node what it becomes.

    What was stored for a replaced operator alone is gone.
    """
    new, gone = _copy(model), set[str]()
    for node in subgraphs.nodes(new.graph):
        change = changes.get(node.output[0]) if node.output else None
        if change is None:
            continue
        node.op_type = change.op
        graph.set_attributes(node, {a.name: None for a in node.attribute} | dict(change.attrs))
        for number, value in enumerate(change.stored, 1):
            name = f"{node.output[0]}_of_any_size_{number}"
            if value is not None:
                new.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
                gone.add(node.input[number])
                node.input[number] = name
    _drop(new.graph, gone)
    graph.list_stored(new)
    return new


def _drop(g: GraphProto, names: set[str]) -> None:
    """Remove stored tensors of some names that nothing reads any more."""
    gone = names - edit.used_counts(g).keys()
    for tensor in [t for t in g.initializer if t.name in gone]:
        g.initializer.remove(tensor)
    for info in [i for i in g.input if i.name in gone]:
        g.input.remove(info)
    for node in [n for n in g.node if n.op_type == graph.CONSTANT and n.output[0] in gone]:
        g.node.remove(node)


def _copy(model: ModelProto) -> ModelProto:
    """A copy without the shapes that the file states of what nodes make."""
    new = ModelProto()
    new.CopyFrom(model)
    for inner in subgraphs.graphs(new.graph):
        _forget(inner)
    return new


def _forget(inner: GraphProto) -> None:
    del inner.value_info[:]
