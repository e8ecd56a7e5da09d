"""One layer's weight moved against its gradient, scaled by what the layer reads.

With inputs x and gradient G a step goes along (E[xxᵀ] + λI)⁻¹ G with momentum (Benzing, Gradient
descent on neurons, 2022), and is as long as changes the layer's result by a given share: no rate
depends on the scale of weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.types import Floats

__all__ = ["Part", "parts_of"]

MOMENTUM, RIDGE = 0.9, 1e-3
#: Inputs of a layer above which only their mean squares scale its steps.
WIDEST = 2304
Array = NDArray[Any]


class Part:
    """One layer on its way: weight and bias as (g, d + 1, o), their scale and their momentum."""

    def __init__(self, layer: Layer, names: tuple[str, str], stored: tuple[Array, Array]) -> None:
        self.layer, self.names, (self.like, self.like_bias) = layer, names, stored
        self.value = self.joined(*stored)
        self.momentum = np.zeros_like(self.value)
        self.mask: NDArray[np.bool_] | None = None

    def masked(self, there: NDArray[np.bool_] | None) -> None:
        """Weights move only where they are `there`; where none is the bias stays as well."""
        if there is not None:
            self.mask = self.joined(there, np.full(self.like_bias.shape, there.any())) != 0

    def joined(self, weight: Array, bias: Array) -> Floats:
        """A weight and a bias, or their gradients, as one."""
        matrix, flat = self.layer.matrix(weight), np.asarray(bias, np.float64).ravel()
        if self.layer.depthwise:
            return np.concatenate([matrix.T, flat[:, None]], 1)[:, :, None]
        return np.concatenate([matrix, flat[None]], 0)[None]

    def see(self, rows: Array) -> None:
        """Take the second moments of inputs (m, d), depthwise (m, taps, c)."""
        wide = rows.astype(np.float64)
        wide = wide.transpose(2, 0, 1) if self.layer.depthwise else wide[None]
        wide = np.concatenate([wide, np.ones((*wide.shape[:2], 1))], 2)
        count, d = wide.shape[1:]
        if d > WIDEST:
            self.metric = (wide**2).mean(1)[:, :, None]
            self.inverse = 1 / (self.metric + RIDGE * self.metric.mean())
            return
        self.metric = wide.transpose(0, 2, 1) @ wide / count
        size = np.trace(self.metric, axis1=1, axis2=2) / d
        ridge = RIDGE * np.maximum(size, 1e-12)[:, None, None] * np.eye(d)
        self.inverse = np.linalg.inv(self.metric + ridge)

    def step(self, weight: Array, bias: Array, share: float) -> dict[str, Array]:
        """Move against a gradient; the new weight and bias."""
        grad = self.joined(weight, bias)
        way = self.inverse * grad if self._plain else self.inverse @ grad
        way = way if self.mask is None else np.where(self.mask, way, 0)
        self.momentum = MOMENTUM * self.momentum + way
        moved, now = self._energy(self.momentum), self._energy(self.value)
        if moved > 0:
            self.value = self.value - share * math.sqrt(now / moved) * self.momentum
        return self.stored()

    @property
    def _plain(self) -> bool:
        return bool(self.metric.shape[2] == 1)

    def _energy(self, value: Floats) -> float:
        turned = self.metric * value if self._plain else self.metric @ value
        return float((value * turned).sum())

    def stored(self) -> dict[str, Array]:
        """Weight and bias in the shape and type of the stored ones."""
        matrix, bias = self.value[:, :-1], self.value[:, -1]
        weight = matrix[:, :, 0].T if self.layer.depthwise else matrix[0]
        name, bias_name = self.names
        return {
            name: self.layer.stored(weight, self.like),
            bias_name: bias.reshape(self.like_bias.shape).astype(self.like_bias.dtype),
        }


def parts_of(student: Analysis) -> Iterator[Part]:
    """The layers that have a weight and a bias of their own."""
    readers = student.index.readers
    for layer in student.layers:
        name, _ = bias_of(layer, readers, student.read)
        weight = student.read(layer.weight.name)
        bias = student.read(name) if name else None
        if weight is not None and bias is not None and not layer.transposed:
            yield Part(layer, (layer.weight.name, name), (weight, bias))
