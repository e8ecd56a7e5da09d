"""Editing a model in place of its weights' shapes: slice tensors, change nodes, keep the rest.

A new ModelProto is built from every field of the old one, so whatever pruning does not touch
survives: names, doc strings, metadata of model, graph and nodes, functions, quantisation
annotations. Weights are sliced one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from onnxprune.ir import graph, subgraphs, tensors
from onnxprune.ir.element_types import element_type
from onnxprune.types import Edit, Ints, Node

__all__ = [
    "NodeEdit",
    "dtype",
    "kept_rows",
    "overwrite",
    "rebuild",
    "replaced",
    "store",
    "sweep",
    "used_counts",
    "with_own_inputs",
]

Change = Callable[[str], NDArray[Any]]
Put = Callable[[TensorProto, NDArray[Any]], TensorProto]


@dataclass(frozen=True)
class NodeEdit:
    """An edit and the node it belongs to."""

    node: Node
    edit: Edit


def replaced(tensor: TensorProto, values: NDArray[Any]) -> TensorProto:
    """`tensor` with other content: name, type, doc string and metadata stay."""
    new = tensors.head(tensor)
    new.dims.extend(values.shape)
    new.raw_data = tensors.raw(values).tobytes()
    return new


def dtype(tensor: TensorProto) -> np.dtype[Any]:
    """The type of a tensor's numbers as numpy has it."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))


def overwrite(tensor: TensorProto, values: NDArray[Any], put: Put | None = None) -> None:
    """Give a stored tensor other content where it stands; `put` takes that of external ones."""
    outside = put and tensors.is_external(tensor) and tensors.expected_bytes(tensor) is not None
    tensor.CopyFrom((put if put and outside else replaced)(tensor, values))


def rebuild(
    model: ModelProto,
    changed: Mapping[str, Change],
    edits: Sequence[NodeEdit],
    sizes: Mapping[str, Mapping[int, int]],
    put: Put | None = None,
) -> ModelProto:
    """A new model with changed weights, edited nodes and declared sizes.

    Args:
        model: stays as it is.
        changed: for a stored tensor's name the function from that name to its new content.
        edits: what to change in nodes.
        sizes: for a tensor's name the new size of each axis that changed.
        put: takes the new content of an external tensor; without it that moves into the model.
    """
    new = ModelProto()
    graph.copy_fields(model, new, frozenset({"graph"}))
    graph.copy_fields(model.graph, new.graph, frozenset({"initializer"}))
    for tensor in model.graph.initializer:
        change = changed.get(tensor.name)
        if change is None:
            new.graph.initializer.append(tensor)
        else:
            outside = (
                put and tensors.is_external(tensor) and tensors.expected_bytes(tensor) is not None
            )
            store = put if put and outside else replaced
            new.graph.initializer.add().CopyFrom(store(tensor, change(tensor.name)))
    for node in new.graph.node:
        if node.op_type == graph.CONSTANT and node.output[0] in changed:
            _change_constant(node, changed[node.output[0]])
    if not (edits or sizes):  # the same graph with other weights
        _declare(new)
        return new
    used_before = used_counts(new.graph)
    unread = {t.name for t in new.graph.initializer if not used_before[t.name]}
    _Editor(new).apply(edits)
    for inner in subgraphs.graphs(new.graph):
        _resize(inner, sizes)
    sweep(new.graph, used_before, unread)
    _declare(new)
    return new


def _resize(g: GraphProto, sizes: Mapping[str, Mapping[int, int]]) -> None:
    """Write new sizes into the declared shapes of one graph."""
    for info in (*g.value_info, *g.input, *g.output):
        for axis, size in sizes.get(info.name, {}).items():
            if axis < len(info.type.tensor_type.shape.dim):
                info.type.tensor_type.shape.dim[axis].dim_value = size


def _declare(model: ModelProto) -> None:
    """Inputs that are constants have their shape, and are all declared that have to be."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for info in (info for info in model.graph.input if info.name in stored):
        sizes, dims = stored.pop(info.name).dims, info.type.tensor_type.shape.dim
        if [dim.dim_value for dim in dims] != list(sizes):
            del dims[:]
            dims.extend(onnx.TensorShapeProto.Dimension(dim_value=size) for size in sizes)
    graph.list_stored(model)


def _change_constant(node: NodeProto, change: Change) -> None:
    tensor = graph.constants_of(node)
    new = replaced(tensor, change(node.output[0]))
    node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", new))


def used_counts(g: GraphProto) -> Counter[str]:
    """How often each tensor is read, bodies and outputs included."""
    counts = Counter(output.name for output in g.output)
    for node in g.node:
        counts.update(subgraphs.reads(node))
    return counts


class _Editor:
    """Writes edits into a graph and its bodies; shape constants that others read are copied first.

    New constants go to the main graph, where all bodies see them.
    """

    def __init__(self, model: ModelProto) -> None:
        self.graph = g = model.graph
        self.kind = partial(element_type, model)
        self.used = used_counts(g)
        self.nodes = {name: node for node in subgraphs.nodes(g) for name in node.output if name}
        self.names = {node.name for node in subgraphs.nodes(g)}
        self.constants = {t.name: t for t in g.initializer}
        self.multiplied: dict[tuple[str, float], str] = {}
        self.before: dict[str, list[NodeProto]] = {}
        self.after: dict[str, list[NodeProto]] = {}
        self.gone: dict[str, list[NodeProto]] = {}
        self.top = {node.output[0] for node in g.node if node.output}

    def apply(self, edits: Sequence[NodeEdit]) -> None:
        """Apply all edits and put new nodes beside the nodes that need them."""
        for edit in edits:
            node = self.nodes[edit.node.outputs[0].name]
            graph.set_attributes(node, edit.edit.attrs)
            for index, entries in edit.edit.inputs.items():
                self._input(node, edit.node, index, entries)
            for index, entries in edit.edit.outputs.items():
                self._output(node, edit.node, index, entries)
            for index, factor in edit.edit.times.items():
                self._times(node, index, factor)
            for index, factor in edit.edit.results_times.items():
                self._result_times(node, edit.node.outputs[index].name, factor)
        if not (self.before or self.after or self.gone):
            return
        for inner in list(subgraphs.graphs(self.graph)):
            self._arrange(inner)

    def _arrange(self, g: GraphProto) -> None:
        ordered: list[NodeProto] = []
        for node in g.node:
            key = node.output[0] if node.output else ""
            ordered += self.before.get(key, [])
            ordered += self.gone.get(key, [node])
            ordered += self.after.get(key, [])
        copies = [NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del g.node[:]
        g.node.extend(copies)

    def _input(
        self, node: NodeProto, view: Node, index: int, entries: tuple[int | None, ...]
    ) -> None:
        tensor = view.input(index)
        unchanged = tensor is not None and tensor.ints() == entries
        if unchanged or all(entry is None for entry in entries):
            return
        old = node.input[index] if index < len(node.input) else ""
        kind = tensor.value.dtype if tensor is not None and tensor.value is not None else np.int64
        while len(node.input) <= index:
            node.input.append("")
        if None in entries:
            node.input[index] = self._where(node, old, entries, kind)
            return
        values = np.array(entries, kind).reshape(
            () if tensor is not None and tensor.rank == 0 else -1
        )
        stored = self.constants.get(old)
        if stored is not None and self.used[old] == 1:
            stored.CopyFrom(replaced(stored, values))
        elif (
            old in self.nodes and self.nodes[old].op_type == graph.CONSTANT and self.used[old] == 1
        ):
            _change_constant(self.nodes[old], lambda _name: values)
        else:
            node.input[index] = self._constant(f"{old or node.output[0]}_pruned", values)

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        base, count = name, 1
        while name in self.constants or name in self.nodes or self.used[name]:
            count += 1
            name = f"{base}_{count}"
        self.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        self.constants[name] = self.graph.initializer[-1]
        return name

    def _where(
        self, node: NodeProto, source: str, entries: tuple[int | None, ...], kind: Any
    ) -> str:
        """A shape that is computed, with its known entries overwritten."""
        fresh = self._select(source, f"{source}_pruned_{node.output[0]}", entries, kind)
        self.before.setdefault(node.output[0], []).append(fresh)
        return str(fresh.output[0])

    def _select(
        self, source: str, target: str, entries: tuple[int | None, ...], kind: Any
    ) -> NodeProto:
        mask = self._constant(f"{target}_mask", np.array([e is not None for e in entries]))
        fixed = self._constant(f"{target}_fixed", np.array([e or 0 for e in entries], kind))
        name = target
        while name in self.names:
            name += "_"
        self.names.add(name)
        return onnx.helper.make_node("Where", [mask, fixed, source], [target], name=name)

    def _output(
        self, node: NodeProto, view: Node, index: int, entries: tuple[int | None, ...]
    ) -> None:
        """Let a computed shape report `entries` under its old name."""
        name = node.output[index]
        if None not in entries:
            values = np.array(entries, np.int64)
            shape = view.outputs[index].shape
            stored = onnx.numpy_helper.from_array(values.reshape(() if shape == () else -1), name)
            self.gone[node.output[0]] = []
            if node.output[0] in self.top:
                self.graph.initializer.append(stored)
            else:  # a body may return it, so it is made there
                constant = onnx.helper.make_node(graph.CONSTANT, [], [name], value=stored)
                self.gone[node.output[0]].append(constant)
            return
        computed = f"{name}_computed"
        key = node.output[0]
        node.output[index] = computed
        select = self._select(computed, name, entries, np.int64)
        self.after.setdefault(computed if index == 0 else key, []).append(select)

    def _times(self, node: NodeProto, index: int, factor: float) -> None:
        """Multiply an input: what is stored where it is stored, else by an operator."""
        old = node.input[index]
        stored = self.constants.get(old) or self._held(old)
        if stored is None:
            fresh = self._product(old, f"{old}_times_{node.output[0]}", factor)
            self.before.setdefault(node.output[0], []).append(fresh)
            node.input[index] = fresh.output[0]
            return
        values = tensors.array(stored)
        values = (values.astype(np.float64) * factor).astype(values.dtype)
        if self.used[old] > 1:  # others read what it was
            if (old, factor) not in self.multiplied:
                self.multiplied[old, factor] = self._constant(f"{old}_times", values)
            node.input[index] = self.multiplied[old, factor]
        elif old in self.constants:
            stored.CopyFrom(replaced(stored, values))
        else:
            _change_constant(self.nodes[old], lambda _name: values)

    def _held(self, name: str) -> TensorProto | None:
        """What a Constant node holds."""
        node = self.nodes.get(name)
        if node is None or node.op_type != graph.CONSTANT:
            return None
        return graph.constants_of(node)

    def _result_times(self, node: NodeProto, name: str, factor: float) -> None:
        """Multiply a result, which keeps its name."""
        index, plain, key = list(node.output).index(name), f"{name}_plain", node.output[0]
        fresh = self._product(plain, name, factor, name)
        node.output[index] = plain
        self.after.setdefault(plain if index == 0 else key, []).append(fresh)

    def _product(self, source: str, target: str, factor: float, like: str = "") -> NodeProto:
        """An operator that multiplies by a number, of the element type of `like` or the source."""
        kind = onnx.helper.tensor_dtype_to_np_dtype(self.kind(like or source))
        number = self._constant(f"{target}_factor", np.array(factor, kind))
        name = target
        while name in self.names:
            name += "_"
        self.names.add(name)
        return onnx.helper.make_node("Mul", [source, number], [target], name=name)


def sweep(g: GraphProto, used_before: Counter[str], unread: set[str]) -> None:
    """Drop operators and constants that nothing reads any more; `unread` ones never were."""
    used = used_counts(g)
    makers = {
        name: (inner, node)
        for inner in subgraphs.graphs(g)
        for node in inner.node
        for name in node.output
    }
    waiting = [name for name in used_before if not used[name]]
    for name in waiting:  # grows while readers of others go
        inner, node = makers.get(name, (g, None))
        if node is None or any(used[output] for output in node.output):
            continue
        for output in node.output:
            makers.pop(output, None)
        inner.node.remove(node)
        lost = Counter(subgraphs.reads(node))
        used.subtract(lost)
        waiting += [source for source in lost if not used[source]]
    gone = {t.name for t in g.initializer if not used[t.name]} - unread
    for tensor in [t for t in g.initializer if t.name in gone]:
        g.initializer.remove(tensor)
    for info in [i for i in g.input if i.name in gone]:
        g.input.remove(info)


def store(model: ModelProto, values: Mapping[str, NDArray[Any]]) -> ModelProto:
    """A copy with computed tensors as initializers; what only they needed is gone."""
    new = ModelProto()
    new.CopyFrom(model)
    used = used_counts(new.graph)
    unread = {t.name for t in new.graph.initializer if not used[t.name]}
    for node in [n for n in new.graph.node if values.keys() & set(n.output)]:
        new.graph.node.remove(node)
    for name, value in values.items():
        new.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    sweep(new.graph, used, unread)
    made = {name for node in new.graph.node for name in node.output}
    for info in [i for i in new.graph.value_info if i.name not in made]:
        new.graph.value_info.remove(info)
    _declare(new)
    return new


def with_own_inputs(
    model: ModelProto, inputs: Mapping[str, tuple[str, NDArray[Any]]]
) -> ModelProto:
    """A copy in which some nodes read stored tensors of their own.

    Args:
        model: stays as it is.
        inputs: for the first result of a node the name that it reads, and what it is to read.
    """
    if not inputs:
        return model
    new = ModelProto()
    new.CopyFrom(model)
    for node in new.graph.node:
        if node.output and node.output[0] in inputs:
            name, values = inputs[node.output[0]]
            own = subgraphs.unused_name(new.graph, f"{node.output[0]}/own")
            new.graph.initializer.append(onnx.numpy_helper.from_array(values, own))
            node.input[:] = [own if read == name else read for read in node.input]
    graph.list_stored(new)
    return new


def kept_rows(
    values: NDArray[Any] | None, keep: Mapping[int, Ints], repeated: bool = False
) -> NDArray[Any]:
    """`values` with only the kept positions of each axis, outer axes first.

    Positions from an axis' size on are new: zeros, or with `repeated` the last ones again.
    """
    assert values is not None
    for axis, positions in sorted(keep.items()):
        size = values.shape[axis]
        # clipping skips a check per element, twice as fast for 1x1 kernels
        values = np.take(values, positions, axis, mode="clip")
        if len(positions) and positions[-1] >= size and not repeated:
            values[(slice(None),) * axis + (positions >= size,)] = 0
    return values
