"""Mutations of a model's graph: nodes, names, order, opsets, functions and bodies.

Each is a function that changes a model in place, drawing from a seeded generator; where a model has
nothing of the kind it stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeAlias

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper

__all__ = ["GRAPHS", "Mutation", "graphs_of", "mutation", "nodes_of", "pick"]

Mutation: TypeAlias = Callable[[ModelProto, Random], None]
GRAPHS: dict[str, Mutation] = {}
#: Words that stand where a name is expected.
NAMES = ("", "nowhere", "x", "a b\n c", "'", "\0", "é" * 3, "n" * 3000, "../x", "alive/x/0")


def mutation(table: dict[str, Mutation]) -> Callable[[Mutation], Mutation]:
    """Enter a mutation into a table under its function's name."""

    def add(function: Mutation) -> Mutation:
        table[function.__name__.strip("_").replace("_", " ")] = function
        return function

    return add


def pick(rng: Random, items: Any) -> Any:
    """One of the items, None if there is none."""
    items = list(items)
    return rng.choice(items) if items else None


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all graphs in it."""
    yield graph
    for node in graph.node:
        for attr in node.attribute:
            for inner in (*attr.graphs, *([attr.g] if attr.type == AttributeProto.GRAPH else [])):
                yield from graphs_of(inner)


def nodes_of(model: ModelProto) -> list[NodeProto]:
    """All nodes, those of bodies and functions too."""
    own = [node for graph in graphs_of(model.graph) for node in graph.node]
    return own + [node for function in model.functions for node in function.node]


def _names(model: ModelProto) -> list[str]:
    """Names of all tensors."""
    names = [t.name for t in model.graph.initializer] + [v.name for v in model.graph.input]
    return names + [name for node in nodes_of(model) for name in node.output]


@mutation(GRAPHS)
def drop_node(model: ModelProto, rng: Random) -> None:
    graph = rng.choice(list(graphs_of(model.graph)))
    if graph.node:
        del graph.node[rng.randrange(len(graph.node))]


@mutation(GRAPHS)
def drop_tensor(model: ModelProto, rng: Random) -> None:
    held = model.graph.initializer
    if held:
        del held[rng.randrange(len(held))]


@mutation(GRAPHS)
def drop_interface(model: ModelProto, rng: Random) -> None:
    graph = rng.choice(list(graphs_of(model.graph)))
    values = rng.choice([graph.input, graph.output])
    if values:
        del values[rng.randrange(len(values))]


@mutation(GRAPHS)
def rename_output(model: ModelProto, rng: Random) -> None:
    node = pick(rng, (n for n in nodes_of(model) if n.output))
    if node:
        node.output[rng.randrange(len(node.output))] = rng.choice([*NAMES, *_names(model)])


@mutation(GRAPHS)
def rename_node(model: ModelProto, rng: Random) -> None:
    node = rng.choice(nodes_of(model))
    field = rng.choice(["name", "op_type", "domain"])
    words = {
        "name": NAMES,
        "op_type": ("", "NoSuchOp", "Relu", "Conv", "MatMul", "If", "Loop", "Constant", "Gemm",
                    "Concat", "Shape", "Reshape", "LSTM", "QLinearConv", "Scan", "Split"),
        "domain": ("ai.onnx", "com.microsoft", "no.such.domain", "\n"),
    }  # fmt: skip
    setattr(node, field, rng.choice(words[field]))


@mutation(GRAPHS)
def rewire_input(model: ModelProto, rng: Random) -> None:
    node = pick(rng, (n for n in nodes_of(model) if n.input))
    if node:
        node.input[rng.randrange(len(node.input))] = rng.choice(_names(model))


@mutation(GRAPHS)
def rewire_to_nothing(model: ModelProto, rng: Random) -> None:
    node = pick(rng, (n for n in nodes_of(model) if n.input))
    if node:
        node.input[rng.randrange(len(node.input))] = rng.choice(NAMES)


@mutation(GRAPHS)
def swap_inputs(model: ModelProto, rng: Random) -> None:
    node = pick(rng, (n for n in nodes_of(model) if len(n.input) > 1))
    if node:
        a, b = rng.sample(range(len(node.input)), 2)
        node.input[a], node.input[b] = node.input[b], node.input[a]


@mutation(GRAPHS)
def inputs_too_many_or_few(model: ModelProto, rng: Random) -> None:
    node = rng.choice(nodes_of(model))
    if rng.random() < 0.5 and node.input:
        del node.input[rng.randrange(len(node.input)) :]
    else:
        node.input.extend(rng.choices(_names(model), k=rng.choice([1, 2, 9])))


@mutation(GRAPHS)
def outputs_too_many_or_few(model: ModelProto, rng: Random) -> None:
    node = rng.choice(nodes_of(model))
    if rng.random() < 0.5 and node.output:
        del node.output[rng.randrange(len(node.output)) :]
    else:
        node.output.extend(f"more{k}" for k in range(rng.choice([1, 2, 9])))


@mutation(GRAPHS)
def duplicate_node(model: ModelProto, rng: Random) -> None:
    graph = rng.choice(list(graphs_of(model.graph)))
    node = pick(rng, graph.node)
    if node:
        copied = graph.node.add()
        copied.CopyFrom(node)
        if rng.random() < 0.5:
            copied.output[:] = [f"{name}_again" for name in copied.output]


@mutation(GRAPHS)
def duplicate_tensor(model: ModelProto, rng: Random) -> None:
    tensor = pick(rng, model.graph.initializer)
    if tensor:
        model.graph.initializer.add().CopyFrom(tensor)
        model.graph.initializer[-1].dims[:] = rng.choice([list(tensor.dims), [1], []])


@mutation(GRAPHS)
def duplicate_interface(model: ModelProto, rng: Random) -> None:
    values = rng.choice([model.graph.input, model.graph.output])
    if values:
        values.add().CopyFrom(rng.choice(list(values)))


@mutation(GRAPHS)
def cycle(model: ModelProto, rng: Random) -> None:
    nodes = [n for n in model.graph.node if n.input and n.output]
    if nodes:
        a = rng.randrange(len(nodes))
        b = rng.randrange(a, len(nodes))
        nodes[a].input[0] = nodes[b].output[0]


@mutation(GRAPHS)
def shuffle_nodes(model: ModelProto, rng: Random) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    copies = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


@mutation(GRAPHS)
def splice_node(model: ModelProto, rng: Random) -> None:
    """Another operator between a node and what reads it."""
    node = pick(rng, (n for n in model.graph.node if n.output))
    if node:
        kind = rng.choice(["Shape", "Relu", "Flatten", "Transpose", "NonZero", "Not", "ReduceMean"])
        old, node.output[0] = node.output[0], f"{node.output[0]}_spliced"
        model.graph.node.append(helper.make_node(kind, [node.output[0]], [old]))


@mutation(GRAPHS)
def opsets(model: ModelProto, rng: Random) -> None:
    version = rng.choice([0, -1, 1, 5, 7, 11, 12, 13, 25, 99, 2**31, 2**40, 2**63 - 1])
    what = rng.choice(["version", "none", "double", "domain", "ir"])
    if what == "ir":
        model.ir_version = version
    elif what == "none" or not model.opset_import:
        del model.opset_import[:]
    elif what == "double":
        model.opset_import.append(helper.make_opsetid("", version))
    elif what == "domain":
        model.opset_import[0].domain = rng.choice(["ai.onnx", "no.such.domain", "com.microsoft"])
    else:
        model.opset_import[0].version = version


@mutation(GRAPHS)
def functions(model: ModelProto, rng: Random) -> None:
    """A function that calls itself, is empty, or has the name of an operator."""
    node = rng.choice(nodes_of(model))
    made = onnx.FunctionProto(name=node.op_type, domain=node.domain)
    made.input.extend(f"i{k}" for k in range(len(node.input)))
    made.output.extend(f"o{k}" for k in range(len(node.output)))
    made.opset_import.extend(model.opset_import)
    if rng.random() < 0.7:
        made.node.add().CopyFrom(node)
        made.node[0].input[:] = made.input
        made.node[0].output[:] = made.output
    model.functions.append(made)


@mutation(GRAPHS)
def bodies(model: ModelProto, rng: Random) -> None:
    """A body without nodes, outputs or inputs, a missing one, one inside itself."""
    held = [
        (node, attr)
        for node in nodes_of(model)
        for attr in node.attribute
        if attr.type == AttributeProto.GRAPH
    ]
    found = pick(rng, held)
    if found is None:
        _if_around(model, rng)
        return
    node, attr = found
    what = rng.choice(["node", "output", "input", "missing", "nested", "name"])
    if what == "missing":
        node.attribute.remove(attr)
    elif what == "nested":
        copied = NodeProto.FromString(node.SerializeToString())
        attr.g.node.append(copied)
    elif what == "name":
        attr.name = rng.choice(["", "body", "then_branch", "x"])
    else:
        del getattr(attr.g, what)[:]


def _if_around(model: ModelProto, rng: Random) -> None:
    """Put the last node into both branches of an If whose condition is any tensor."""
    node = NodeProto.FromString(model.graph.node[-1].SerializeToString())
    made = [onnx.ValueInfoProto(name=name) for name in node.output]
    branch = helper.make_graph([node], "branch", [], made)
    branches = {"then_branch": branch, "else_branch": branch}
    whole = helper.make_node("If", [rng.choice(_names(model))], node.output, **branches)
    model.graph.node[-1].CopyFrom(whole)
