"""Which stored tensors are trained, and how each moves in a step.

A layer's weight and bias move together, preconditioned by the moments of what the layer reads (see
`onnxprune.compensation.distillation.optimizer`). All else, such as scales of normalisations and
tables of embeddings, moves by its own first and second moments of gradients (Kingma and Ba, Adam,
2015), in shares of the root mean square of its numbers. Both are free of the scale of weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.compensation.distillation import optimizer
from onnxprune.compensation.distillation.optimizer import Preconditioner, TunedLayer
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.types import Floats, Node

__all__ = ["LayerParameter", "Move", "Parameter", "PlainParameter", "State", "found_parameters"]

Array = NDArray[Any]
#: Decay of the first and second moments of gradients.
FIRST, SECOND = 0.9, 0.99
#: Numbers whose root mean square is smaller, such as biases of zero, move as if it were this.
LEAST_SCALE = 0.02
#: Numbers that stand for minus infinity in masks of attention: nothing that was learnt is as large.
LARGEST = 1e4


class State(NamedTuple):
    """A parameter between two steps: its numbers in double precision, and sums of past gradients.

    `second` is empty where nothing is known of squares.
    """

    value: Floats
    first: Floats
    second: Floats


class Move(NamedTuple):
    """A step: its number from 1 on, and the share by which results change."""

    number: int
    share: float


@dataclass(frozen=True)
class LayerParameter:
    """Weight and bias of a layer; the bias has no name where there is none."""

    tuned: TunedLayer
    scale: Preconditioner | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the stored tensors."""
        return tuple(filter(None, self.tuned.names))

    def start(self) -> State:
        """The state before the first step."""
        value, momentum = optimizer.start(self.tuned)
        return State(value, momentum, np.zeros(0))

    def stepped(self, state: State, gradients: Mapping[str, Array], move: Move) -> State:
        """The state after a step against gradients by name."""
        assert self.scale is not None
        weight, bias = self.tuned.names
        slope = gradients[bias] if bias else np.zeros(self.tuned.bias.shape)
        gradient = self.tuned.joined(gradients[weight], slope)
        before = optimizer.State(state.value, state.first)
        after = optimizer.step(before, gradient, self.scale, self.tuned.mask, move.share)
        return State(after.value, after.momentum, state.second)

    def stored(self, state: State) -> dict[str, Array]:
        """The tensors by name, in their own type."""
        return {name: v for name, v in self.tuned.stored(state.value).items() if name}


@dataclass(frozen=True)
class PlainParameter:
    """A stored tensor by itself; `mask` are the numbers that move, None: all."""

    name: str
    array: Array
    mask: NDArray[np.bool_] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the stored tensor."""
        return (self.name,)

    def start(self) -> State:
        """The state before the first step."""
        value: Floats = self.array.astype(np.float64)
        return State(value, np.zeros_like(value), np.zeros_like(value))

    def stepped(self, state: State, gradients: Mapping[str, Array], move: Move) -> State:
        """The state after a step against gradients by name."""
        gradient: Floats = gradients[self.name].astype(np.float64)
        first = FIRST * state.first + (1 - FIRST) * gradient
        second = SECOND * state.second + (1 - SECOND) * gradient**2
        mean, square = first / (1 - FIRST**move.number), second / (1 - SECOND**move.number)
        size = max(math.sqrt(float((state.value**2).mean())), LEAST_SCALE)
        direction = mean / (np.sqrt(square) + 1e-12)
        direction = direction if self.mask is None else np.where(self.mask, direction, 0)
        return State(state.value - move.share * size * direction, first, second)

    def stored(self, state: State) -> dict[str, Array]:
        """The tensor by name, in its own type."""
        return {self.name: state.value.astype(self.array.dtype)}


Parameter = LayerParameter | PlainParameter


def found_parameters(
    analysis: Analysis, masks: Mapping[str, NDArray[np.bool_]], excluded: Set[str] = frozenset()
) -> tuple[list[Parameter], dict[str, str]]:
    """The tensors that a model may have learnt, as parameters; by name of others why they stay.

    Args:
        analysis: the model.
        masks: by name, in the tensor's shape, the numbers that move; all where there is none.
        excluded: names of tensors that stay.
    """
    found, taken = list[Parameter](), set[str]()
    for layer in analysis.layers:
        made = _of_layer(analysis, layer, masks)
        if made is not None and excluded.isdisjoint(made.names):
            found.append(made)
            taken.update(made.names)
    learnt, left = _learnt(analysis), dict[str, str]()
    for name in analysis.parameters:
        if name in taken:
            continue
        array = analysis.read(name)
        if array is None:
            continue
        why = _reason(array, name in learnt)
        if name in excluded:
            left[name] = "it is excluded"
        elif why:
            left[name] = why
        else:
            found.append(PlainParameter(name, array, masks.get(name)))
    return found, left


def _of_layer(
    analysis: Analysis, layer: Layer, masks: Mapping[str, NDArray[np.bool_]]
) -> LayerParameter | None:
    """A layer with its bias, if it has one of its own; None where it has no form to step in."""
    name = layer.weight.name
    weight = analysis.read(name)
    if layer.transposed or weight is None or weight.dtype.kind != "f":
        return None
    bias_name, _ = bias_of(layer, analysis.index.readers, analysis.read)
    bias = analysis.read(bias_name) if bias_name else None
    if bias is None:
        bias_name, bias = "", np.zeros(layer.weight.size(layer.kernel.out_axis) or 0, weight.dtype)
    tuned = TunedLayer(layer, (name, bias_name), weight, bias)
    moves = masks.get(name)
    if moves is None and bias_name:
        return LayerParameter(tuned)
    moves = np.ones(weight.shape, bool) if moves is None else moves
    also = np.full(bias.shape, bool(bias_name) and bool(moves.any()))
    mask = tuned.joined(moves, also) != 0
    return LayerParameter(TunedLayer(layer, tuned.names, weight, bias, mask))


def _learnt(analysis: Analysis) -> set[str]:
    """Tensors that operators multiply with, scale by, add or look up, one number a channel."""
    roles = analysis.roles
    found = {axis.tensor for part in (roles.makes, roles.reads, roles.scales) for axis in part}
    for node in analysis.nodes:
        found.update(_vectors(analysis, node))
    return found


def _vectors(analysis: Analysis, node: Node) -> list[str]:
    """Stored vectors that a node adds, multiplies with, or normalises by."""
    kernels = [kernel.bias for kernel in ops.kernels_of(node) if kernel.bias is not None]
    known = node.op in ops.ARITHMETIC or node.op in ops.NORMALISATIONS or ops.is_activation(node.op)
    indices = set(kernels) | (set(range(len(node.inputs))) if known else set())
    tensors = (node.input(index) for index in sorted(indices))
    shapes = ((t.name, analysis.stored.get(t.name)) for t in tensors if t is not None)
    return [name for name, s in shapes if s and max(s) == math.prod(s) > 1]


def _reason(array: Array, learnt: bool) -> str:
    """Why a tensor is not trained; empty where it is."""
    if array.dtype.kind != "f":
        return f"its numbers are {array.dtype}"
    if array.size < 2 or not learnt:
        return "it is a constant of the graph: nothing says that it was learnt"
    if not np.isfinite(array).all() or np.abs(array).max() > LARGEST:
        return "it holds numbers that stand for infinity"
    return ""
