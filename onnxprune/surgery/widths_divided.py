"""Where the numbers go that keep a mean over fewer positions divided by the width before.

A rule asks for a factor of a result (`Edit.results_times`). It is carried forward along the one
reader of each tensor until a stored weight takes it, the γ of a normalisation; ε is divided on the
way. Where none does, the factor becomes a multiplication behind the mean itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np

from onnxprune import ops
from onnxprune.ir.edit import NodeEdit
from onnxprune.ops.scaled_statistics import share
from onnxprune.types import Edit, Ints, Node, Tensor

__all__ = ["Gamma", "Readers", "carried", "gamma", "readers_of"]

#: Who reads each tensor, and as which input; -1 inside a body.
Readers: TypeAlias = Mapping[str, Sequence[tuple[Node, int]]]


def carried(edits: Sequence[NodeEdit], readers: Readers, ends: Collection[str]) -> list[NodeEdit]:
    """The same edits; factors of results are those of stored inputs where that is possible.

    Args:
        edits: of a cut.
        readers: who reads each tensor.
        ends: names of the model's outputs, whose values must stay.
    """
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


class Gamma(NamedTuple):
    """A stored tensor that is multiplied with r^power where the share r of positions is left.

    `direct`: the positions themselves are averaged, not their squares.
    """

    tensor: Tensor
    power: float
    direct: bool


def gamma(node: Node, readers: Readers, ends: Collection[str]) -> Gamma | None:
    """Say what takes the width that a node divides by; None where that is no stored tensor.

    Args:
        node: may take a mean.
        readers: see `readers_of`.
        ends: names of the model's outputs.
    """
    if node.op not in ops.AVERAGES:
        return None
    edit = ops.SHRINKS[node.op](node, _half)
    if not edit.results_times:
        return _taken(node, edit.times, share(_half, node.outputs[0], -1), False)
    left = edit.results_times[0]
    path = _path(node, 0, left, readers, ends)
    return _taken(path[-1].node, path[-1].edit.times, left, True) if path else None


def _half(tensor: Tensor, axis: int) -> Ints:
    return np.arange(max((tensor.size(axis) or 0) // 2, 1))


def _taken(node: Node, times: Mapping[int, float], left: float, direct: bool) -> Gamma | None:
    for index, factor in times.items():
        tensor = node.input(index)
        if tensor is not None and tensor.constant and 0 < left < 1:
            return Gamma(tensor, math.log(factor) / math.log(left), direct)
    return None


def readers_of(nodes: Sequence[Node]) -> Readers:
    """Find out who reads each tensor."""
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
    readers: Readers,
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
