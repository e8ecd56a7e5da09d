"""Where the numbers go that keep a mean over fewer positions divided by the width before.

A rule asks for a factor of a result (`Edit.results_times`). It is carried forward along the one
reader of each tensor until a stored weight takes it, the γ of a normalisation; ε is divided on the
way. Where none does, the factor becomes a multiplication behind the mean itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from onnxprune import ops
from onnxprune.ir.edit import NodeEdit
from onnxprune.types import Edit, Node

__all__ = ["carried"]


def carried(
    edits: Sequence[NodeEdit], nodes: Sequence[Node], ends: Collection[str]
) -> list[NodeEdit]:
    """The same edits; factors of results are those of stored inputs where that is possible.

    Args:
        edits: of a cut.
        nodes: all operators.
        ends: names of the model's outputs, whose values must stay.
    """
    if not any(edit.edit.results_times for edit in edits):
        return list(edits)
    readers = _readers(nodes)
    found = list[NodeEdit]()
    for own in edits:
        left = dict(own.edit.results_times)
        for index in own.edit.results_times:
            path = _path(own.node, index, left[index], readers, ends)
            if path is not None:
                del left[index]
                found += path
        found.append(NodeEdit(own.node, replace(own.edit, results_times=left)))
    return [own for own in found if own.edit != Edit()]


def _readers(nodes: Sequence[Node]) -> dict[str, list[tuple[Node, int]]]:
    """Who reads each tensor, and as which input; -1 inside a body."""
    found: dict[str, list[tuple[Node, int]]] = {}
    for node in nodes:
        for index, tensor in enumerate(node.inputs):
            if tensor is not None:
                found.setdefault(tensor.name, []).append((node, index))
        for tensor in node.captured:
            found.setdefault(tensor.name, []).append((node, -1))
    return found


def _path(
    node: Node,
    index: int,
    factor: float,
    readers: Mapping[str, Sequence[tuple[Node, int]]],
    ends: Collection[str],
) -> list[NodeEdit] | None:
    """Edits of the operators behind a result that take its factor; None where they do not."""
    found, tensor = list[NodeEdit](), node.outputs[index]
    while factor != 1:
        behind = readers.get(tensor.name, ())
        if tensor.name in ends or len(behind) != 1 or behind[0][1] < 0:
            return None
        reader, at = behind[0]
        passed = ops.passed(reader, at, factor)
        if passed is None or reader.bodies:
            return None
        if passed.times:
            found.append(NodeEdit(reader, Edit(times=passed.times)))
        factor, tensor = passed.factor, reader.outputs[0]
    return found
