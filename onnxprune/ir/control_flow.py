"""A graph without If, Loop and Scan that has the same shapes: what shape inference is given.

onnx's own inference hides the values of outer constants from bodies and forgets the shape of
whatever a loop carries. Here the nodes of bodies stand in line with all others. Where a value can
come from two places (two branches; the start of a loop and its last round) the shape of the first
is assumed and `weaker` says afterwards which assumption did not hold: repeated until all hold,
this ends with the shapes that are true for every path. `RandomUniformLike` passes a shape
on, but no value: a counter is not always what it starts with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

from onnxprune.ir import subgraphs

__all__ = ["Flat", "flatten"]

Shape = tuple[int | None, ...]
#: What a flat graph is written with: a shape is passed on, one position is picked, an axis added.
_PASS, _GATHER, _UNSQUEEZE = "RandomUniformLike", "Gather", "Unsqueeze"


@dataclass
class Flat:
    """The nodes, tensors that come from nowhere, constants, and which shapes must agree.

    `agree` holds (assumed, other): the shape of `assumed` must also fit `other`.
    """

    opset: int
    taken: Mapping[str, bool]
    nodes: list[NodeProto] = field(default_factory=list)
    inputs: list[ValueInfoProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    agree: list[tuple[str, str]] = field(default_factory=list)

    def weaker(self, shapes: Mapping[str, Shape]) -> dict[str, Shape | None]:
        """Tensors whose assumed shape is too much, and what is left of it; None: not the rank."""
        found: dict[str, Shape | None] = {}
        for name, other in self.agree:
            a, b = found.get(name, shapes.get(name)), shapes.get(other)
            if a is None:
                continue
            left = None if b is None or len(a) != len(b) else _common(a, b)
            if left != a:
                found[name] = left
        return found


def _common(a: Shape, b: Shape) -> Shape:
    return tuple(m if m == n else None for m, n in zip(a, b, strict=True))


def flatten(graph: GraphProto, opset: int, taken: Mapping[str, bool]) -> Flat:
    """The graph in one line; `taken` are conditions of If that always hold, or never."""
    flat = Flat(opset, taken)
    _add(flat, graph)
    return flat


def _add(flat: Flat, graph: GraphProto) -> None:
    for node in graph.node:
        if not subgraphs.is_control(node):
            flat.nodes.append(node)
        elif node.op_type == subgraphs.IF:
            _branch(flat, node)
        elif node.op_type == subgraphs.LOOP:
            _loop(flat, node)
        elif flat.opset >= 9:
            _scan(flat, node)


def _branch(flat: Flat, node: NodeProto) -> None:
    wanted = flat.taken.get(node.input[0])
    sources = []
    for name, body in subgraphs.bodies(node):
        _add(flat, body)
        if wanted is None or name == ("then_branch" if wanted else "else_branch"):
            sources.append([output.name for output in body.output])
    for result, first, *others in zip(node.output, *sources, strict=False):
        _node(flat, _PASS, [first], result)
        flat.agree += [(result, other) for other in others]


def _loop(flat: Flat, node: NodeProto) -> None:
    ((_, body),) = subgraphs.bodies(node)
    flat.inputs += body.input[:2]
    n = len(node.input) - 2
    results = [output.name for output in body.output[1:]]
    _carried(flat, body, node.input[2:], [value.name for value in body.input[2:]], results)
    for value, result in zip(body.input[2:], node.output, strict=False):
        _node(flat, _PASS, [value.name], result)
    rounds = f"{node.output[0]} rounds"
    flat.inputs.append(onnx.helper.make_tensor_value_info(rounds, TensorProto.INT64, [None]))
    for made, result in zip(results[n:], node.output[n:], strict=False):
        _stacked(flat, made, result, 0, rounds)


def _carried(
    flat: Flat, body: GraphProto, start: Sequence[str], inside: Sequence[str], end: Sequence[str]
) -> None:
    """Values that the rounds of a loop hand on; then the body."""
    for first, value, last in zip(start, inside, end, strict=False):
        _node(flat, _PASS, [first], value)
        flat.agree.append((value, last))
    _add(flat, body)


def _scan(flat: Flat, node: NodeProto) -> None:
    ((_, body),) = subgraphs.bodies(node)
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    scanned = attrs["num_scan_inputs"]
    n = len(node.input) - scanned
    axes = attrs.get("scan_input_axes", [0] * scanned)
    turn = f"{node.output[0]} turn"
    flat.inputs.append(onnx.helper.make_tensor_value_info(turn, TensorProto.INT64, []))
    for source, value, axis in zip(node.input[n:], body.input[n:], axes, strict=False):
        _node(flat, _GATHER, [source, turn], value.name, axis=axis)
    results = [output.name for output in body.output]
    _carried(flat, body, node.input[:n], [value.name for value in body.input[:n]], results[:n])
    for value, result in zip(body.input[:n], node.output, strict=False):
        _node(flat, _PASS, [value.name], result)
    length = _node(flat, "Shape", [node.input[n]], f"{turn} shape")
    length = _node(
        flat, _GATHER, [length, _constant(flat, f"{turn} axis", [axes[0]])], f"{turn} length"
    )
    rounds = _node(flat, "ConstantOfShape", [length], f"{turn} rounds")
    axes = attrs.get("scan_output_axes", [0] * (len(results) - n))
    for made, result, axis in zip(results[n:], node.output[n:], axes, strict=False):
        _stacked(flat, made, result, axis, rounds)


def _stacked(flat: Flat, made: str, result: str, axis: int, rounds: str) -> None:
    """What a loop collects: one more axis, as long as `rounds` (n,)."""
    if flat.opset < 13:
        row = _node(flat, _UNSQUEEZE, [made], f"{result} row", axes=[axis])
    else:
        at = _constant(flat, f"{result} axis", [axis])
        row = _node(flat, _UNSQUEEZE, [made, at], f"{result} row")
    _node(flat, _GATHER, [row, rounds], result, axis=axis)


def _node(flat: Flat, op: str, sources: Sequence[str], result: str, **attrs: Any) -> str:
    flat.nodes.append(onnx.helper.make_node(op, sources, [result], **attrs))
    return result


def _constant(flat: Flat, name: str, values: Sequence[int]) -> str:
    flat.constants.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
    return name
