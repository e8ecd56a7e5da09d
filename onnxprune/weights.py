"""The weights of a group: which tensors make its channels, which read them.

Weights are looked up and sliced when they are asked for, one at a time, so that a criterion
costs one pass over the model's bytes and no second copy of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.ops import stored
from onnxprune.types import Axis, Choice, Coupling, Fact, Group, Ints, Node

__all__ = ["GroupWeights", "Profile", "Reading", "Roles", "biases", "group_name", "roles"]

Matrix = NDArray[Any]
Floats = NDArray[np.float64]
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
class Profile:
    """What calibration data looks like along one axis of an activation, position by position.

    Attributes:
        count: numbers seen at each position.
        mean: (n,) mean.
        magnitude: (n,) mean of |x|.
        square: (n,) mean of x².
        silent: (n,) share of zeros.
        cov: (n, n) covariance between positions, None where it was not asked for.
    """

    count: int
    mean: Floats
    magnitude: Floats
    square: Floats
    silent: Floats
    cov: Floats | None = None

    @property
    def variance(self) -> Floats:
        """(n,) variance."""
        variance: Floats = np.maximum(self.square - self.mean**2, 0)
        return variance


@dataclass(frozen=True)
class Reading:
    """A weight that reads the group, and what calibration data it is multiplied with.

    Attributes:
        weight: (n_channels, k, m) parameters that read each of a channel's k positions.
        positions: (n_channels, k) positions of the channels on the data's axis.
        profile: statistics along that axis.
        matching: the weight has k positions for each channel too, else k is 1 in `weight`.
    """

    weight: NDArray[Any]
    positions: Ints
    profile: Profile
    matching: bool

    def at_channels(self, statistic: Floats) -> Floats:
        """(n_channels, k) one statistic at each channel's positions, as `weight` has them."""
        there: Floats = statistic[self.positions]
        return there if self.matching else there.mean(1, keepdims=True)


@dataclass(frozen=True)
class GroupWeights:
    """One group as a criterion sees it: matrices with one row per channel.

    `read` gives weights as real numbers, also those that are stored as integers. `rng` is seeded
    by the user's seed and the group's name. `activations` has what calibration data looks like
    along the axes that weights read, None without data.
    """

    group: Group
    roles: Roles
    read: Callable[[str], NDArray[Any] | None]
    rng: np.random.Generator
    activations: Mapping[Axis, Profile] | None = None

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

    @property
    def profiles(self) -> Iterator[tuple[Profile, Ints]]:
        """Statistics of every activation that weights read the group from, (n_channels, k) where.

        None for a group that no stored weight reads, and none without data.
        """
        known, seen = self.activations or {}, set[Axis]()
        at = dict(self.group.axes())
        for axis in at:
            data = self.roles.data.get(axis)
            if data in known and data in at and data not in seen:
                seen.add(data)
                yield known[data], at[data]

    @property
    def readings(self) -> Iterator[Reading]:
        """Every weight that reads the group from an activation with statistics."""
        known, at = self.activations or {}, dict(self.group.axes())
        for axis, positions in at.items():
            data = self.roles.data.get(axis)
            if data not in known or data not in at:
                continue
            values = self.read(axis.tensor)
            if values is not None:
                matching = positions.shape == at[data].shape
                n, k = positions.shape
                weight = _rows(values, axis.axis, positions).reshape(n, k if matching else 1, -1)
                yield Reading(weight, at[data], known[data], matching)

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
