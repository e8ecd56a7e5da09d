"""Mean and covariance of channels behind an operator, from those in front: the table, and rules.

A rule takes a node and estimates of the tensors before it, and gives the estimate of its
result, None where it cannot say; operators without a rule say nothing. Layers and normalisations
have their rules in `moments_layers`, what moves channels in `moments_places`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.facets import ARITHMETIC, FUNCTIONS
from onnxprune.ops.registry import register
from onnxprune.types import Floats, Node, Read, Tensor

__all__ = [
    "MOMENTS",
    "NEAR",
    "Estimate",
    "Estimates",
    "Linear",
    "MomentRule",
    "combined",
    "kept",
    "moments",
    "side_by_side",
    "stored_others",
    "through",
    "turned_to_first",
]

Array: TypeAlias = NDArray[Any]
#: Correlation of neighbours in space that is taken where nothing is known of the result.
NEAR = 0.6


@dataclass(frozen=True)
class Estimate:
    """Mean (n,) and covariance (n, n) of the channels on axis 1 of a tensor.

    `anchored`: their scale is that of a normalisation, not carried on from a guess of the input's.
    """

    mean: Floats
    cov: Floats
    anchored: bool = False


class Linear(Protocol):
    """A node that multiplies its data with a stored weight, see `groups.layers`."""

    @property
    def data(self) -> Tensor:
        """What is multiplied."""

    @property
    def weight(self) -> Tensor:
        """What it is multiplied with."""

    @property
    def bias(self) -> Tensor | None:
        """The stored bias, if there is one."""

    @property
    def dense(self) -> bool:
        """A plain matrix product."""

    @property
    def depthwise(self) -> bool:
        """Every output channel reads one input channel."""

    def matrix(self, stored: Array) -> Floats:
        """The weight as a matrix (in, out)."""


@dataclass(frozen=True)
class Estimates:
    """What a rule may ask.

    Attributes:
        known: estimates of tensors by name.
        makers: the node that makes each tensor.
        read: what is stored.
        run: computes a node on arrays, one for each input that is there; None where it cannot.
        layer: the node as a layer, None where it is none with a stored weight.
        curved: mean (n,) and covariance (n, n) of f(x) for Gaussian x, from f of (n, m) values.
    """

    known: Mapping[str, Estimate]
    makers: Mapping[str, Node]
    read: Read
    run: Callable[[Node, Sequence[Array | None]], Array | None]
    layer: Callable[[Node], Linear | None]
    curved: Callable[[Callable[[Floats], Floats], Floats, Floats], tuple[Floats, Floats]]

    def of(self, node: Node, index: int = 0) -> Estimate | None:
        """Look up the estimate of an input."""
        tensor = node.input(index)
        return self.known.get(tensor.name) if tensor is not None else None


MomentRule: TypeAlias = Callable[[Node, Estimates], Estimate | None]
MOMENTS: dict[str, MomentRule] = {}


def moments(*ops: str) -> Callable[[MomentRule], MomentRule]:
    """Register how means and covariances pass operators."""
    return register(MOMENTS, ops)


def kept(node: Node, given: Estimates) -> Estimate | None:
    """Leave channels as they are: dropout, and pools, whose windows hold what is alike."""
    data = given.of(node)
    same = data is not None and node.outputs[0].size(1) == len(data.mean)
    return data if same else None


def turned_to_first(node: Node, given: Estimates) -> Estimate | None:
    """Move the channels of an image from the last axis to the first."""
    return kept(node, given) if node.outputs[0].rank == 4 else None


def stored_others(node: Node) -> list[Array | None] | None:
    """What all inputs but the first hold, None where one is not known."""
    others = node.inputs[1:]
    if any(t is not None and t.value is None for t in others):
        return None
    return [None if t is None else t.value for t in others]


def through(node: Node, given: Estimates) -> Estimate | None:
    """Send Gaussian channels through an elementwise function."""
    data = given.of(node)
    return None if data is None else _curved(node, data, given)


def _curved(node: Node, data: Estimate, given: Estimates, gated: bool = False) -> Estimate | None:
    """Behind an elementwise function f of one tensor x, or `gated` x · f(x)."""
    others = stored_others(node)
    if others is None or any(value is not None and value.size != 1 for value in others):
        return None

    def function(x: Floats) -> Floats:
        y = given.run(node, [x.astype(np.float32), *others])
        y = np.full_like(x, np.nan) if y is None else y
        return np.asarray(x * y if gated else y, np.float64)

    mean, cov = given.curved(function, data.mean, data.cov)
    return Estimate(mean, cov, data.anchored) if np.isfinite(cov).all() else None


def side_by_side(node: Node, given: Estimates) -> Estimate | None:
    """Join channels of several tensors, which are taken as independent."""
    parts = [part for k in range(len(node.inputs)) if (part := given.of(node, k)) is not None]
    if node.attrs.get("axis") != 1 or len(parts) < len(node.inputs):
        return None
    mean = np.concatenate([part.mean for part in parts])
    cov, at = np.zeros((len(mean), len(mean))), 0
    for part in parts:
        n = len(part.mean)
        cov[at : at + n, at : at + n], at = part.cov, at + n
    return Estimate(mean, cov, all(part.anchored for part in parts))


def combined(node: Node, given: Estimates) -> Estimate | None:
    """Two tensors together: a constant and another, a gate and what it is made of, or a sum."""
    if len(node.inputs) != 2:
        return None
    a, b = given.of(node), given.of(node, 1)
    if a is None or b is None:
        return _with_constant(node, given)
    if ARITHMETIC[node.op] == "*":
        return _gated(node, (a, b), given)
    if ARITHMETIC[node.op] != "+" or len(a.mean) != len(b.mean):
        return None
    return Estimate(a.mean + b.mean, a.cov + b.cov, a.anchored and b.anchored)


def _with_constant(node: Node, given: Estimates) -> Estimate | None:
    """Scale or move by a number or a vector over the channels."""
    index = 0 if given.of(node) is not None else 1
    data, other = given.of(node, index), node.inputs[1 - index]
    stored = given.read(other.name) if other is not None else None
    if data is None or stored is None or stored.dtype.kind != "f":
        return None
    rank, n = node.outputs[0].rank, len(data.mean)
    shape = (*[1] * (rank - stored.ndim), *stored.shape)
    if stored.size not in (1, n) or (stored.size == n > 1 and shape[1:2] != (n,)):
        return None
    vector = np.broadcast_to(stored.ravel().astype(np.float64), n)
    if ARITHMETIC[node.op] == "+":
        return Estimate(data.mean + vector, data.cov, data.anchored)
    if ARITHMETIC[node.op] == "*":
        return Estimate(data.mean * vector, data.cov * np.outer(vector, vector), data.anchored)
    return None


def _gated(node: Node, data: tuple[Estimate, Estimate], given: Estimates) -> Estimate | None:
    """X · f(x), such as SiLU."""
    for x, gate, known in zip(node.inputs, node.inputs[::-1], data, strict=True):
        maker = given.makers.get(gate.name) if gate is not None else None
        if x is None or maker is None or maker.op not in FUNCTIONS or maker.input(0) != x:
            continue
        return _curved(maker, known, given, gated=True)
    return None
