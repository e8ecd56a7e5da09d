"""The graphs inside If, Loop and Scan. They read the values of the graphs around them.

Other operators that hold graphs (SequenceMap, searches of onnxruntime) are opaque: what their
graphs do with a tensor is not looked into.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, NodeProto

__all__ = [
    "IF",
    "LOOP",
    "bodies",
    "bodies_need",
    "captured",
    "depth",
    "given",
    "graphs",
    "hidden",
    "is_control",
    "needs",
    "nodes",
    "reads",
    "unused_name",
]

IF = "If"
LOOP = "Loop"
_CONTROL = frozenset({IF, LOOP, "Scan"})
_HOLDS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def is_control(node: NodeProto) -> bool:
    """Whether the node is one whose graphs are looked into."""
    return node.op_type in _CONTROL and node.domain in ("", "ai.onnx")


def bodies(node: NodeProto) -> list[tuple[str, GraphProto]]:
    """Attribute name and graph of each body of If, Loop and Scan; none for other operators."""
    if not is_control(node):
        return []
    return [(a.name, a.g) for a in node.attribute if a.type == AttributeProto.GRAPH]


def hidden(node: NodeProto) -> list[GraphProto]:
    """The graphs of an opaque operator."""
    held = [a for a in node.attribute if a.type in _HOLDS]
    if not held or is_control(node):
        return []
    return [graph for a in held for graph in (a.graphs or [a.g])]


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all bodies in it, inner ones first."""
    for node in graph.node:
        for _, body in bodies(node):
            yield from graphs(body)
    yield graph


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those of bodies right before the node that they belong to."""
    for node in graph.node:
        for _, body in bodies(node):
            yield from nodes(body)
        yield node


def depth(graph: GraphProto) -> int:
    """How many levels of bodies the graph has; 0: none."""
    within = (body for node in graph.node for _, body in bodies(node))
    return max((1 + depth(body) for body in within), default=0)


def reads(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, as often as it does; what its bodies return counts too."""
    yield from (name for name in node.input if name)
    for _, body in bodies(node):
        yield from (output.name for output in body.output)
        for inner in body.node:
            yield from reads(inner)
    yield from captured(node)


def captured(node: NodeProto) -> set[str]:
    """Names that the graphs of an opaque operator may read from outside."""
    names: set[str] = set()
    for graph in hidden(node):
        names.update(output.name for output in graph.output)
        for inner in graph.node:
            names.update(reads(inner))
    return names


def given(graph: GraphProto) -> set[str]:
    """Tensors that are there before any node runs: inputs and stored ones."""
    names = {value.name for value in graph.input}
    names.update(tensor.name for tensor in graph.initializer)
    names.update(tensor.values.name for tensor in graph.sparse_initializer)
    return names


def needs(node: NodeProto) -> set[str]:
    """What the node reads from its own graph and those around, in its bodies too."""
    return {name for name in node.input if name} | bodies_need(node)


def bodies_need(node: NodeProto) -> set[str]:
    """What the graphs of a node read from its own graph and those around."""
    names = set[str]()
    for graph in (*(body for _, body in bodies(node)), *hidden(node)):
        inside = given(graph)
        read = {output.name for output in graph.output}
        for inner in graph.node:
            inside.update(inner.output)
            read |= needs(inner)
        names |= read - inside
    return names


def unused_name(graph: GraphProto, name: str) -> str:
    """Lengthen a name until that of no tensor in a graph and its bodies begins with it."""
    taken = {n for node in nodes(graph) for n in (*node.input, *node.output)}
    while any(other.startswith(name) for other in taken):
        name += "_"
    return name
