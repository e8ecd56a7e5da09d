"""The weights of a group: which tensors make its channels, which read them.

Weights are looked up and sliced when they are asked for, one at a time, so that a criterion
costs one pass over the model's bytes and no second copy of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.ops import stored
from onnxprune.types import Axis, Choice, Coupling, Fact, Group, Ints, Node

__all__ = ["GroupWeights", "Roles", "biases", "group_name", "roles"]

Matrix = NDArray[Any]


@dataclass(frozen=True)
class Roles:
    """Axes of stored weights by what they do: make channels, read them, scale them."""

    makes: Mapping[Axis, str]
    reads: Mapping[Axis, str]
    scales: Mapping[Axis, str]


def roles(nodes: Sequence[Node]) -> Roles:
    """The role of every weight axis, with the name of the node that uses it.

    A weight that is computed from stored tensors (transposed, or put together from slices) passes
    its role on to them, along the couplings.
    """
    makes, reads, scales = dict[Axis, str](), dict[Axis, str](), dict[Axis, str]()
    for node in nodes:
        for kernel in ops.kernels_of(node):
            weight = node.inputs[kernel.index]
            if weight is not None and weight.constant:
                for axis in (kernel.out_axis, *kernel.more_out):
                    makes[weight.at(axis)] = node.name
                if kernel.in_axis is not None:
                    reads[weight.at(kernel.in_axis)] = node.name
        scale = node.input(ops.SCALES[node.op]) if node.op in ops.SCALES else None
        if scale is not None and scale.constant:
            scales[scale.at(0)] = node.name
    for known in (makes, reads, scales):
        _pass_on(nodes, known)
    return Roles(makes, reads, scales)


def _pass_on(nodes: Sequence[Node], known: dict[Axis, str]) -> None:
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


def biases(nodes: Sequence[Node]) -> set[str]:
    """Stored tensors that operators add as a bias, integers among them."""
    made_by, found = stored.makers(nodes), set[str]()
    for node in nodes:
        for kernel in ops.kernels_of(node):
            bias = node.input(kernel.bias) if kernel.bias is not None else None
            if bias is not None:
                found.add(stored.source(bias, made_by)[0].name)
    return found


def group_name(known: Roles) -> Callable[[tuple[Axis, ...]], str | None]:
    """Names a group after the first weight that makes its channels; None if none does."""
    return lambda axes: next((axis.tensor for axis in axes if axis in known.makes), None)


@dataclass(frozen=True)
class GroupWeights:
    """One group as a criterion sees it: matrices with one row per channel.

    `read` gives weights as real numbers, also those that are stored as integers. `rng` is seeded
    by the user's seed and the group's name.
    """

    group: Group
    roles: Roles
    read: Callable[[str], NDArray[Any] | None]
    rng: np.random.Generator

    @property
    def rows(self) -> Iterator[Matrix]:
        """(n_channels, m) parameters of each filter, for every weight that makes the channels."""
        return self._matrices(self.roles.makes)

    @property
    def columns(self) -> Iterator[Matrix]:
        """(n_channels, m) parameters that read each channel, for every weight that does."""
        return self._matrices(self.roles.reads)

    @property
    def scales(self) -> Iterator[Matrix]:
        """(n_channels, k) normalisation scales."""
        return self._matrices(self.roles.scales)

    def _matrices(self, wanted: Mapping[Axis, str]) -> Iterator[Matrix]:
        for axis, positions in self.group.axes():
            if axis in wanted:
                values = self.read(axis.tensor)
                if values is not None:
                    yield _rows(values, axis.axis, positions)


def _rows(values: NDArray[Any], axis: int, positions: Ints) -> Matrix:
    """One row per channel: everything at the channel's positions of `axis`."""
    n, k = positions.shape
    whole = k == 1 and n == values.shape[axis] and bool((positions[:, 0] == np.arange(n)).all())
    if axis:
        values = np.moveaxis(values, axis, 0)
    if not whole:
        values = values[positions.ravel()]
    return values.reshape(n, -1)
