"""Roles of weight axes: which make the channels of a group, which read them, which scale them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.ops import dequantize
from onnxprune.types import Axis, Choice, Coupling, Fact, Group, Ints, Node, Read

__all__ = ["Roles", "biases_of", "group_matrices", "group_name", "roles", "rows_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Roles:
    """Axes of stored weights by what they do: make channels, read them, scale them.

    Each with the name of the node that uses it; `data` has the axis that a reading axis is
    multiplied with.
    """

    makes: Mapping[Axis, str]
    reads: Mapping[Axis, str]
    scales: Mapping[Axis, str]
    data: Mapping[Axis, Axis]


def roles(nodes: Sequence[Node]) -> Roles:
    """The role of every weight axis, with the name of the node that uses it.

    A weight that is computed from stored tensors (transposed, or put together from slices) passes
    its role on to them, along the couplings.
    """
    makes, reads, scales = dict[Axis, str](), dict[Axis, str](), dict[Axis, str]()
    data = dict[Axis, Axis]()
    for node in nodes:
        for kernel in ops.kernels_of(node):
            weight = node.inputs[kernel.index]
            if weight is not None and weight.constant:
                for axis in (kernel.out_axis, *kernel.more_out):
                    makes[weight.at(axis)] = node.name
                if kernel.in_axis is not None:
                    reads[weight.at(kernel.in_axis)] = node.name
                    operand = kernel.operand(node)
                    if operand is not None and not operand.constant:
                        data[weight.at(kernel.in_axis)] = operand.at(kernel.reads)
        scale = node.input(ops.SCALES[node.op]) if node.op in ops.SCALES else None
        if scale is not None and scale.constant:
            scales[scale.at(0)] = node.name
    for known in (makes, reads, scales):
        _pass_on(nodes, known)
    _pass_on(nodes, data)
    return Roles(makes, reads, scales, data)


def _pass_on(nodes: Sequence[Node], known: dict[Axis, T]) -> None:
    """Move roles from results of constant operators to the axes that those are made from."""
    computed = {axis.tensor for axis in known}
    for node in reversed(nodes):
        results = {y.name for y in node.outputs if y.constant and y.name in computed}
        if not results or node.op not in ops.COUPLINGS:
            continue
        pairs = list(_pairs(ops.COUPLINGS[node.op](node)))
        pairs += [(b, a) for a, b in pairs]
        moved = [(a, b) for a, b in pairs if b in known and b.tensor in results]
        moved = [(a, b) for a, b in moved if a.tensor not in results]
        for a, b in moved:
            known.setdefault(a, known[b])
            computed.add(a.tensor)
        for b in {b for _, b in moved}:
            del known[b]


def _pairs(facts: Iterable[Fact]) -> Iterator[tuple[Axis, Axis]]:
    for fact in facts:
        if isinstance(fact, Coupling):
            yield fact.a, fact.b
        elif isinstance(fact, Choice):
            yield from ((c.a, c.b) for option in fact.options for c in option.couplings)


def biases_of(nodes: Sequence[Node]) -> set[str]:
    """Stored tensors that operators add as a bias, integers among them."""
    made_by, found = dequantize.makers(nodes), set[str]()
    for node in nodes:
        for kernel in ops.kernels_of(node):
            bias = node.input(kernel.bias) if kernel.bias is not None else None
            if bias is not None:
                found.add(dequantize.source(bias, made_by)[0].name)
    return found


def group_name(known: Roles) -> Callable[[tuple[Axis, ...]], str | None]:
    """Names a group after the first weight that makes its channels; None if none does."""
    return lambda axes: next((axis.tensor for axis in axes if axis in known.makes), None)


def group_matrices(group: Group, wanted: Collection[Axis], read: Read) -> Iterator[NDArray[Any]]:
    """(n_channels, m) parameters of each channel, for every axis of the group that is `wanted`."""
    for axis, positions in group.axes():
        if axis in wanted:
            values = read(axis.tensor)
            if values is not None:
                yield rows_of(values, axis.axis, positions)


def rows_of(values: NDArray[Any], axis: int, positions: Ints) -> NDArray[Any]:
    """(n_channels, m) everything at each channel's `positions` (n_channels, k) of `axis`."""
    n, k = positions.shape
    whole = k == 1 and n == values.shape[axis] and bool((positions[:, 0] == np.arange(n)).all())
    if axis:
        values = np.moveaxis(values, axis, 0)
    if not whole:
        values = values[positions.ravel()]
    return values.reshape(n, -1)
