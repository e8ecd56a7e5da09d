"""Weights that the graph computes from stored ones alone, with arithmetic: stored as what they are.

Weight standardisation and exports without constant folding compute a kernel from constants on
every run. Statistics over a weight's input channels would freeze them; the result itself is an
ordinary weight. What only moves values (Transpose, Slice, Concat, a cast, quantised weights) stays
as it is: rules follow those to the stored tensor. So does what would take more bytes than what it
is computed from: weights decoded from integers, tables of positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.ir import edit, graph, runtime, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Node, Traits

__all__ = ["RunAlone", "function_runner", "precomputed", "run_alone"]

#: Computes a node on arrays, one for each input that is there; None where it cannot.
RunAlone: TypeAlias = Callable[[Node, Sequence[NDArray[Any] | None]], NDArray[Any] | None]

#: Smaller results are shapes and scalars, which are looked into anyway.
FEWEST_ELEMENTS = 1024


def precomputed(
    model: ModelProto, traits: Traits, *, biases_too: bool = False
) -> tuple[ModelProto, list[str]]:
    """Store weights that the graph computes (the same object if there are none); with a note.

    Args:
        model: in one scope.
        traits: which operators only move values, or draw random ones.
        biases_too: also biases of layers that are filled with one number: they take what refitting
            leaves.
    """
    makers, arithmetic = _constant_nodes(model, traits)
    read = {
        name
        for node in model.graph.node
        if not (node.output and node.output[0] in makers)
        for name in node.input
    }
    biases = _filled_biases(model, makers, traits) if biases_too else set()
    free = _freed_bytes(model, makers, read)
    wanted = sorted(read & arithmetic | biases)
    stored = graph.reader(model) if wanted else None
    values = {}
    for name in wanted:
        nodes = _ancestors(name, makers)
        needs = _stored_needs(nodes, makers)
        assert stored is not None
        known = {n: value for n in needs if (value := stored(n)) is not None}
        found = runtime.compute(*skeleton.node_model(model, nodes, known)).get(name)
        if found is None or not (found.size >= FEWEST_ELEMENTS or name in biases):
            continue
        freed = sum(free.get(n, 0) for n in needs)
        if np.issubdtype(found.dtype, np.floating) and (name in biases or found.nbytes <= freed):
            values[name] = found
    if not values:
        return model, []
    note = f"{len(values)} weights that the graph computes from others are stored as they are"
    return edit.store(model, values), [note]


def _constant_nodes(model: ModelProto, traits: Traits) -> tuple[dict[str, Any], set[str]]:
    """Operators on constants alone by what they make, and the results of real arithmetic."""
    constant = set(graph.constants(model)) - {value.name for value in graph.graph_inputs(model)}
    makers: dict[str, Any] = {}
    arithmetic: set[str] = set()
    for node in graph.walk(model):
        plain = not any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)
        if not (plain and node.input and constant.issuperset(n for n in node.input if n)):
            continue
        if graph.op_key(node) in traits.random or node.domain not in ("", "ai.onnx"):
            continue
        constant.update(node.output)
        makers.update(dict.fromkeys((name for name in node.output if name), node))
        if graph.op_key(node) not in traits.moving or arithmetic.intersection(node.input):
            arithmetic.update(name for name in node.output if name)
    return makers, arithmetic


def _filled_biases(model: ModelProto, makers: Mapping[str, Any], traits: Traits) -> set[str]:
    """Biases of layers that are filled with one number, and could take up others if stored."""
    biases = set[str]()
    for node in graph.walk(model):
        index = traits.biases.get(graph.op_key(node), len(node.input))
        maker = makers.get(node.input[index]) if index < len(node.input) else None
        if maker is not None and graph.op_key(maker) in traits.fills:
            biases.add(node.input[index])
    return biases


def _freed_bytes(
    model: ModelProto, makers: Mapping[str, Any], read: Collection[str]
) -> dict[str, int]:
    """Bytes of every stored tensor that only one of the results that are `read` is made from."""
    results = Counter(
        n for name in makers.keys() & read for n in _stored_needs(_ancestors(name, makers), makers)
    )
    sizes = graph.sizes(model)
    return {n: sizes.get(n, 0) for n, count in results.items() if count == 1 and n not in read}


def _stored_needs(nodes: Sequence[Any], makers: Mapping[str, Any]) -> set[str]:
    """The stored tensors that these operators on constants start from."""
    return {name for node in nodes for name in node.input if name} - makers.keys()


def _ancestors(name: str, makers: Mapping[str, Any]) -> Sequence[Any]:
    """The operators that lead to a tensor, in the order they run in."""
    wanted, found = {name}, []
    for node in reversed(list({id(node): node for node in makers.values()}.values())):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def run_alone(node: Node, inputs: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """Compute the first result of a node on given inputs; None where it cannot be run."""
    names = ["" if value is None else f"in{k}" for k, value in enumerate(inputs)]
    values = {f"in{k}": value for k, value in enumerate(inputs) if value is not None}
    while names and not names[-1]:
        names.pop()
    model, outputs = skeleton.single_node(node.op, names, node.attrs, node.opset, values)
    return runtime.compute(model, outputs).get(outputs[0])


def function_runner() -> RunAlone:
    """Make a `run_alone` for functions of a float32 array that are computed again and again.

    A session is opened once for each form of an operator: most of what a single run takes is that.
    """
    opened = dict[object, Any]()

    def run(node: Node, inputs: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
        first, others = inputs[0], inputs[1:]
        if first is None or first.dtype != np.float32:
            return run_alone(node, inputs)
        stored = [None if v is None else (v.dtype.str, v.shape, v.tobytes()) for v in others]
        form = (node.op, repr(sorted(node.attrs.items())), node.opset, tuple(stored))
        if form not in opened:
            opened[form] = _opened(node, others)
        return None if opened[form] is None else runtime.outcome(opened[form], {"in0": first})

    return run


def _opened(node: Node, others: Sequence[NDArray[Any] | None]) -> Any:
    """A session of a node whose first input is fed; None where onnxruntime does not open it."""
    names = ["in0", *("" if value is None else f"in{k}" for k, value in enumerate(others, 1))]
    values = {f"in{k}": value for k, value in enumerate(others, 1) if value is not None}
    while not names[-1]:
        names.pop()
    content, _ = skeleton.single_node(node.op, names, node.attrs, node.opset, values)
    model = ModelProto.FromString(content)
    skeleton.add_input(model, "in0")
    try:
        return runtime.open_session(graph.model_bytes(model), optimize=False)
    except InputError:  # it only costs knowledge
        return None
