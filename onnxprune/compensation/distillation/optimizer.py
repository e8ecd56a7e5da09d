"""Move a layer's weight against its gradient, preconditioned by the moments of what it reads.

With inputs x and gradient G a step goes along (E[xxᵀ] + λI)⁻¹ G with momentum (Benzing, Gradient
descent on neurons, 2022). It is as long as changes the layer's results by a given share, so no
learning rate depends on the scale of weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.types import Floats

__all__ = [
    "Preconditioner",
    "State",
    "TunedLayer",
    "preconditioner",
    "start",
    "step",
    "tuned_layers",
]

#: Share of the step before that is added to each.
MOMENTUM = 0.9
#: λ in shares of the mean of the diagonal.
RIDGE = 1e-3
#: Layers with more inputs than this are preconditioned by the diagonal of E[xxᵀ] alone.
WIDEST = 2304
Array = NDArray[Any]


@dataclass(frozen=True)
class TunedLayer:
    """A layer whose weight and bias are tuned together, as one array (g, d + 1, o).

    A dense layer is one group of d inputs and o outputs; a depthwise layer is a group for each
    channel, of d taps and one output.

    Attributes:
        layer: the layer.
        names: of its weight and its bias.
        weight: as it is stored.
        bias: as it is stored.
        mask: (g, d + 1, o) the numbers that move; None for all.
    """

    layer: Layer
    names: tuple[str, str]
    weight: Array
    bias: Array
    mask: NDArray[np.bool_] | None = None

    def joined(self, weight: Array, bias: Array) -> Floats:
        """A weight and a bias as they are stored, or their gradients, as one array."""
        matrix, flat = self.layer.matrix(weight), np.asarray(bias, np.float64).ravel()
        if self.layer.depthwise:
            return np.concatenate([matrix.T, flat[:, None]], 1)[:, :, None]
        return np.concatenate([matrix, flat[None]], 0)[None]

    def stored(self, value: Floats) -> dict[str, Array]:
        """The inverse of `joined`: weight and bias by name, in the type of the stored ones."""
        matrix, bias = value[:, :-1], value[:, -1]
        weight = matrix[:, :, 0].T if self.layer.depthwise else matrix[0]
        name, bias_name = self.names
        return {
            name: self.layer.stored(weight, self.weight),
            bias_name: bias.reshape(self.bias.shape).astype(self.bias.dtype),
        }


def tuned_layers(student: Analysis, masks: Mapping[str, NDArray[np.bool_]]) -> Iterator[TunedLayer]:
    """The layers of a model that have a weight and a bias of their own.

    Args:
        student: the model.
        masks: by name of a weight, in its shape, the numbers that move. A bias moves unless no
            number of its weight does.
    """
    readers = student.index.readers
    for layer in student.layers:
        name, _ = bias_of(layer, readers, student.read)
        weight = student.read(layer.weight.name)
        bias = student.read(name) if name else None
        if weight is None or bias is None or layer.transposed:
            continue
        tuned = TunedLayer(layer, (layer.weight.name, name), weight, bias)
        moves, mask = masks.get(layer.weight.name), None
        if moves is not None:
            mask = tuned.joined(moves, np.full(bias.shape, moves.any())) != 0
        yield TunedLayer(layer, tuned.names, weight, bias, mask)


class Preconditioner(NamedTuple):
    """Second moments (g, d + 1, d + 1) of a layer's inputs and the constant 1, and their inverse.

    Both are diagonals (g, d + 1, 1) where there are more than `WIDEST` inputs.
    """

    moments: Floats
    inverse: Floats

    def direction(self, gradient: Floats) -> Floats:
        """The inverse times a gradient (g, d + 1, o)."""
        return _times(self.inverse, gradient)

    def energy(self, value: Floats) -> float:
        """Mean square of the results that a weight and bias (g, d + 1, o) give."""
        return float((value * _times(self.moments, value)).sum())


def _times(matrix: Floats, value: Floats) -> Floats:
    diagonal = matrix.shape[2] == 1
    return matrix * value if diagonal else matrix @ value


def preconditioner(rows: Array, depthwise: bool) -> Preconditioner:
    """Measure the moments of a layer's inputs.

    Args:
        rows: (m, d) inputs; depthwise (m, taps, channels).
        depthwise: whether the layer is.
    """
    inputs = rows.astype(np.float64)
    inputs = inputs.transpose(2, 0, 1) if depthwise else inputs[None]
    inputs = np.concatenate([inputs, np.ones((*inputs.shape[:2], 1))], 2)
    count, d = inputs.shape[1:]
    if d > WIDEST:
        squares = (inputs**2).mean(1)[:, :, None]
        return Preconditioner(squares, 1 / (squares + RIDGE * squares.mean()))
    moments = inputs.transpose(0, 2, 1) @ inputs / count
    size = np.trace(moments, axis1=1, axis2=2) / d
    ridge = RIDGE * np.maximum(size, 1e-12)[:, None, None] * np.eye(d)
    return Preconditioner(moments, np.linalg.inv(moments + ridge))


class State(NamedTuple):
    """A weight and bias (g, d + 1, o) between two steps, and the sum of past directions."""

    value: Floats
    momentum: Floats


def start(layer: TunedLayer) -> State:
    """The state of a layer before its first step."""
    value = layer.joined(layer.weight, layer.bias)
    return State(value, np.zeros_like(value))


def step(
    state: State,
    gradient: Floats,
    scale: Preconditioner,
    mask: NDArray[np.bool_] | None,
    share: float,
) -> State:
    """Go one step against a gradient.

    Args:
        state: before the step.
        gradient: (g, d + 1, o) of the loss.
        scale: moments of what the layer reads.
        mask: (g, d + 1, o) the numbers that move, None for all.
        share: length of the step: root mean square of the change of the layer's results, in shares
            of that of the results.
    """
    direction = scale.direction(gradient)
    direction = direction if mask is None else np.where(mask, direction, 0)
    momentum = MOMENTUM * state.momentum + direction
    change, now = scale.energy(momentum), scale.energy(state.value)
    if change <= 0:
        return State(state.value, momentum)
    return State(state.value - share * math.sqrt(now / change) * momentum, momentum)
