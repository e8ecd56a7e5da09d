"""A model as the engine wants it, which computes the same: one scope, all weights in one place.

Exporters keep weights in branches and loops, in functions, in sparse form; they give tensors of
sibling branches one name, and sometimes leave nodes out of order. Here functions are inlined,
sparse weights made dense, nodes sorted, tensors of bodies renamed where another has their name,
constants of bodies moved to the main graph, whose values every body can read, and weights that take
their type from an activation given that type. A plain model is returned as it is; what no runtime
can make sense of is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from onnxprune.errors import InputError, one_line
from onnxprune.ir import cast_like, graph, subgraphs, tensors, topology, well_formed

__all__ = ["distinct", "prepare", "typed"]


def prepare(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """The model in one scope (the same object if it was), and what a user should know of it.

    Raises:
        InputError: a tensor is made twice, read and never made, made from itself, or stored with
            less or more content than its shape takes.
    """
    model, notes = _in_one_scope(model)
    model, more = typed(model)
    return model, [*notes, *more]


def typed(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """The model with types of weights settled (the same object if they were), and a note."""
    model, casts = cast_like.settle_types(model)
    note = f"{casts} weights have the type that they were cast to at run time"
    return model, [note] if casts else []


def _in_one_scope(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """The model with functions inlined, nodes sorted and all constants in the main graph."""
    notes = []
    if _calls(model):
        model = _inlined(model)
        notes.append("the model's functions were inlined")
    is_sorted = _check(model)
    counts = Counter(tensor.name for tensor in model.graph.initializer)
    double = sorted(name for name, count in counts.items() if count > 1)
    for name in double:
        notes.append(f"'{name}' is stored {counts[name]} times; the last counts, as in onnxruntime")
    everywhere = list(subgraphs.graphs(model.graph))
    nested = len(everywhere) > 1
    sparse = any(map(_has_sparse, everywhere))
    if sparse:
        notes.append("sparse weights are written dense")
    if is_sorted and not (nested or sparse or double):
        return model, notes
    new = ModelProto()
    new.CopyFrom(model)
    if not is_sorted:
        topology.sort(new.graph)
    for inner in subgraphs.graphs(new.graph) if sparse else ():
        _densify(inner)
    if double:
        last = {tensor.name: tensor for tensor in model.graph.initializer}
        del new.graph.initializer[:]
        new.graph.initializer.extend(last.values())
    if nested:
        scope = _Scope(new)
        scope.lift(new.graph, {})
        if scope.moved:
            graph.list_stored(new)
            notes.append(f"{scope.moved} constants of branches and loops went to the main graph")
    return new, notes


def _check(model: ModelProto) -> bool:
    """Whether the nodes are sorted; InputError where the model makes no sense."""
    if not model.graph.output:
        raise InputError("the model has no output, so nothing can be compared. Export it again.")
    well_formed.check(model)
    return topology.check(model.graph)


def distinct(model: ModelProto) -> ModelProto:
    """The model with another name for each node but the first of a name; the same if none is.

    onnxruntime loads no model with two nodes of one name.
    """
    crowded = [
        number
        for number, inner in enumerate(subgraphs.graphs(model.graph))
        if len(names := [node.name for node in inner.node if node.name]) > len(set(names))
    ]
    if not crowded:
        return model
    new = ModelProto()
    new.CopyFrom(model)
    everywhere = list(subgraphs.graphs(new.graph))
    for number in crowded:
        taken = {node.name for node in everywhere[number].node}
        seen = set[str]()
        for node in everywhere[number].node:
            if node.name in seen:
                node.name = _fresh(node.name, taken)
            seen.update([node.name] if node.name else [])
    return new


def _fresh(name: str, taken: set[str]) -> str:
    """`name`, with a number where it is taken; taken from now on."""
    count, found = 1, name
    while not found or found in taken:
        count += 1
        found = f"{name}_{count}"
    taken.add(found)
    return found


def _calls(model: ModelProto) -> set[tuple[str, str]]:
    """Domain and name of the functions of the model that its graph calls, directly or not."""
    own = {(function.domain, function.name): function for function in model.functions}
    called = set[tuple[str, str]]()
    waiting = [model.graph] if own else []
    for graph_or_function in waiting:
        for node in graph_or_function.node:
            key = node.domain, node.op_type
            if key in own and key not in called:
                called.add(key)
                waiting.append(own[key])
            waiting += [body for _, body in subgraphs.bodies(node)] + subgraphs.hidden(node)
    return called


def _inlined(model: ModelProto) -> ModelProto:
    """Calls of the model's own functions replaced by what they do; weights stay out of it."""
    bare = ModelProto()
    graph.copy_fields(model, bare, frozenset({"graph"}))
    graph.copy_fields(model.graph, bare.graph, frozenset({"initializer"}))
    bare.graph.initializer.extend(
        TensorProto(name=t.name, data_type=t.data_type, dims=t.dims)
        for t in model.graph.initializer
    )
    try:
        inlined = onnx.inliner.inline_local_functions(bare)
    except Exception as error:  # onnx's own kinds: functions that call themselves, or two of a name
        raise InputError(
            f"the model's functions cannot be inlined: {one_line(error)}. Export the model again."
        ) from error
    new = distinct(inlined)
    del new.graph.initializer[:]
    new.graph.initializer.extend(model.graph.initializer)
    called = _calls(model)
    left = {(function.domain, function.name) for function in new.functions}
    new.functions.extend(
        function
        for function in model.functions
        if (function.domain, function.name) not in called | left
    )
    return new


def _has_sparse(inner: GraphProto) -> bool:
    return len(inner.sparse_initializer) > 0 or any(map(_is_sparse, inner.node))


def _is_sparse(node: NodeProto) -> bool:
    return node.op_type == graph.CONSTANT and any(a.name == "sparse_value" for a in node.attribute)


def _densify(inner: GraphProto) -> None:
    """Store the sparse tensors of one graph as plain ones."""
    for stored in inner.sparse_initializer:
        inner.initializer.append(_dense(stored))
    del inner.sparse_initializer[:]
    for node in filter(_is_sparse, inner.node):
        value = _dense(node.attribute[0].sparse_tensor)
        node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", value))


def _dense(sparse: SparseTensorProto) -> TensorProto:
    """Indices are (nnz,) into the flat tensor, or (nnz, rank)."""
    values, at = tensors.array(sparse.values), tensors.array(sparse.indices)
    full = np.zeros(tuple(sparse.dims), values.dtype)
    try:
        full[np.unravel_index(at, full.shape) if at.ndim == 1 else tuple(at.T)] = values
    except (IndexError, ValueError) as error:
        raise InputError(
            f"sparse tensor '{sparse.values.name}' of shape {list(sparse.dims)} stores "
            f"{values.size} values at places that it does not have: {one_line(error)}. The file is "
            "damaged: export it again."
        ) from error
    dense = TensorProto(
        name=sparse.values.name,
        data_type=sparse.values.data_type,
        dims=sparse.dims,
        raw_data=full.tobytes(),
    )
    return dense


class _Scope:
    """Renames tensors of bodies that have the name of another, and empties bodies of constants."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.made = subgraphs.given(model.graph) | {n for m in model.graph.node for n in m.output}
        self.taken = _names(model.graph)
        self.moved = 0

    def lift(self, inner: GraphProto, scope: dict[str, str]) -> None:
        """Rename in the bodies of a graph's nodes; `scope` maps old names around to new ones."""
        for node in inner.node:
            for k, name in enumerate(node.output):
                if not name and subgraphs.is_control(node):
                    node.output[k] = _fresh(f"{node.name}_unused", self.taken)
            for opaque in subgraphs.hidden(node):
                _rename_inside(opaque, scope)
            for _, body in subgraphs.bodies(node):
                self._body(body, scope)

    def _body(self, body: GraphProto, outer: dict[str, str]) -> None:
        own = subgraphs.given(body) | {name for node in body.node for name in node.output if name}
        scope = {old: new for old, new in outer.items() if old not in own}
        scope.update((name, _fresh(name, self.taken)) for name in sorted(own & self.made))
        _rename(body, scope)
        self.made.update(scope.get(name, name) for name in own)
        self._hoist(body)
        self.lift(body, scope)
        self._return_own(body)

    def _hoist(self, body: GraphProto) -> None:
        """Move constants to the main graph, where every body sees them."""
        moved = list(body.initializer)
        for node in [n for n in body.node if n.op_type == graph.CONSTANT and n.attribute]:
            tensor = TensorProto()
            tensor.CopyFrom(graph.constants_of(node))
            tensor.name = node.output[0]
            moved.append(tensor)
            body.node.remove(node)
        self.moved += len(moved)
        self.model.graph.initializer.extend(moved)
        names = {tensor.name for tensor in moved}
        del body.initializer[:]
        for values in (body.input, body.value_info):
            for info in [info for info in values if info.name in names]:
                values.remove(info)

    def _return_own(self, body: GraphProto) -> None:
        """A body returns what its nodes make: pass on what is no longer, or never was, inside."""
        own = subgraphs.given(body) | {name for node in body.node for name in node.output}
        for output in body.output:
            if output.name not in own:
                source, output.name = output.name, _fresh(output.name, self.taken)
                body.node.append(onnx.helper.make_node("Identity", [source], [output.name]))


def _names(inner: GraphProto) -> set[str]:
    """Every name of a tensor in a graph and all graphs in it."""
    names = subgraphs.given(inner) | {value.name for value in inner.output}
    for node in inner.node:
        names.update((*node.input, *node.output))
        for deeper in (*(body for _, body in subgraphs.bodies(node)), *subgraphs.hidden(node)):
            names |= _names(deeper)
    return names


def _rename(inner: GraphProto, scope: Mapping[str, str]) -> None:
    """Rename tensors of one graph, where `scope` has another name for them."""
    if not scope:
        return
    for message in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
        message.name = scope.get(message.name, message.name)
    for node in inner.node:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = scope.get(name, name)
    for note in inner.quantization_annotation:
        note.tensor_name = scope.get(note.tensor_name, note.tensor_name)
        for entry in note.quant_parameter_tensor_names:
            entry.value = scope.get(entry.value, entry.value)


def _rename_inside(inner: GraphProto, scope: Mapping[str, str]) -> None:
    """Rename what the graphs of an opaque operator read from outside."""
    own = subgraphs.given(inner) | {name for node in inner.node for name in node.output}
    scope = {old: new for old, new in scope.items() if old not in own}
    _rename(inner, scope)
    for node in inner.node:
        for deeper in (*(body for _, body in subgraphs.bodies(node)), *subgraphs.hidden(node)):
            _rename_inside(deeper, scope)
