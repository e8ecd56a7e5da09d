"""Steps of a random graph that branch or loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper
from random_maker import Maker, Value, step

ROUND = {"round": TensorProto.INT64, "go_on": TensorProto.BOOL}


def body(
    m: Maker, mark: str, make: Callable[[], str], inputs: Mapping[str, Any] | None = None
) -> GraphProto:
    """What `make` writes, moved into a body; its weights go along, or stay outside.

    `inputs` are shapes by name; a body that has them also says whether to go on.
    """
    before, stored = len(m.nodes), len(m.weights)
    result = make()
    nodes, weights = m.nodes[before:], m.weights[stored:] if m.half() else []
    del m.nodes[before:]
    if weights:
        del m.weights[stored:]
        m.stored.clear()
    new = {name: f"{mark}{name}" for name in inputs or {}}
    new |= {name: f"{mark}{name}" for node in nodes for name in node.output}
    new |= {tensor.name: f"{mark}{tensor.name}" for tensor in weights}
    for node in nodes:
        node.name = f"{mark}{node.name}"
    rename(nodes, new)
    for tensor in weights:
        tensor.name = new[tensor.name]
    if m.half():
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in weights] + nodes
        weights = []
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(m.kind))
    ends = [helper.make_tensor_value_info(new[result], kind, None)]
    if inputs:
        ends.insert(0, helper.make_tensor_value_info(new["go_on"], TensorProto.BOOL, []))
    infos = [
        helper.make_tensor_value_info(new[name], ROUND.get(name, kind), shape)
        for name, shape in (inputs or {}).items()
    ]
    return helper.make_graph(nodes, f"{mark}graph", infos, ends, weights)


def rename(nodes: Iterable[NodeProto], new: Mapping[str, str]) -> None:
    """Give tensors that nodes read and make new names, in bodies too."""
    for node in nodes:
        for names in (node.input, node.output):
            renamed = [new.get(name, name) for name in names]
            del names[:]
            names.extend(renamed)
        for attr in node.attribute:
            rename(attr.g.node, new)


def layer(m: Maker, x: str, n: int, out: int) -> str:
    """A product over the last axis, and something behind it."""
    y = m.op("MatMul", x, m.matrix(n, out, fan=n))
    return str(m.op(m.pick(["Tanh", "Relu", "Identity", "Sigmoid"]), y))


def chain(m: Maker, x: Value, out: int) -> str:
    """One or two layers."""
    if m.half():
        return layer(m, x.name, x.shape[-1], out)
    hidden = m.width()
    return layer(m, layer(m, x.name, x.shape[-1], hidden), hidden, out)


def last_static(m: Maker, x: Value) -> bool:
    """At least two axes, and the last one never changes its size."""
    return x.rank >= 2 and x.static(-1) and m.opset >= 11


@step(last_static)
def branches(m: Maker, x: Value) -> None:
    """The data decide; one branch may branch again."""
    out, mark = m.width(), f"in{len(m.nodes)}_"
    asked = m.op("Greater", m.op("ReduceSum", x.name, keepdims=0), m.number(0))

    def inner() -> str:
        if m.often():
            return chain(m, x, out)
        two = [body(m, f"{mark}{k}", lambda: chain(m, x, out)) for k in "xy"]
        return str(m.op("If", asked, then_branch=two[0], else_branch=two[1]))

    first, second = (body(m, f"{mark}{k}", make) for k, make in
                     (("a", inner), ("b", lambda: chain(m, x, out))))  # fmt: skip
    sizes = (*x.sizes[:-1], type(x.sizes[-1])(out))
    m.add("If", [asked], sizes, then_branch=first, else_branch=second)


@step(last_static)
def loop(m: Maker, x: Value) -> None:
    """Two rounds of a cell that reads what it returned, and the value the loop started from."""
    n, mark = x.shape[-1], f"in{len(m.nodes)}_"
    start = m.tame(x).name
    n_rounds = m.const(np.array(2))

    def cell() -> str:
        fresh = layer(m, "carried", n, n)
        mixed = m.op("Add", fresh, start) if m.half() else m.op("Mul", fresh, "carried")
        return str(m.op("Tanh", mixed))

    shape = [None] * x.rank
    inputs = {"round": [], "go_on": [], "carried": shape}
    m.add("Loop", [n_rounds, "", start], x.sizes, body=body(m, mark, cell, inputs))
