"""What a refitted layer should give: the original's value where the layer's result is next added.

Behind a layer there may be a bias, a BatchNormalization and a residual sum. Aiming at the
original's sum, minus what the pruned model already brings to it on the other path, lets the layer
repair what earlier layers broke (asymmetric reconstruction with residual correction).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.layers import Layer, _other, bias_of
from onnxprune.types import Floats, Node, Read, Tensor

__all__ = ["LayerTarget", "layer_target"]

#: A normalisation scale below this share of the largest cannot be divided by.
TINY = 1e-3


@dataclass(frozen=True)
class LayerTarget:
    """Target of a layer: (`tensor` of the original - `minus` of the pruned - shift) / scale.

    `clipped`: only a rectifier reads the tensor, so that below zero any value is as good.
    """

    tensor: str
    minus: str | None
    scale: Floats | None = None
    shift: Floats | None = None
    clipped: bool = False

    def of(self, original: NDArray[Any], other: NDArray[Any] | None) -> NDArray[Any]:
        """The target (m, o) from rows of both tensors."""
        target = original if other is None else original - other
        if self.scale is None or self.shift is None:
            return target
        return np.asarray((target - self.shift) / self.scale, original.dtype)


def layer_target(
    layer: Layer,
    readers: Mapping[str, list[Node]],
    read: Read,
    before: Callable[[str], bool],
) -> LayerTarget:
    """The layer's target; `before` says whether the pruned model has a tensor by then."""
    _, y = bias_of(layer, readers, read)
    scale = shift = None
    plain = y.name
    following = readers.get(y.name, [])
    if len(following) == 1 and following[0].op in ops.AFFINE:
        affine = _affine(following[0], read)
        if affine is not None:
            scale, shift = affine
            y = following[0].outputs[0]
            following = readers.get(y.name, [])
    if len(following) == 1 and ops.adds(following[0].op):
        other = _other(following[0], y)
        added = following[0].outputs[0]
        fits = other is not None and not other.constant and other.shape == y.shape == added.shape
        if fits and other is not None and before(other.name):
            return LayerTarget(added.name, other.name, scale, shift, _clipped(added, readers))
    clipped = _clipped(y, readers)
    return LayerTarget(y.name, None, scale, shift, clipped) if clipped else LayerTarget(plain, None)


def _clipped(y: Tensor, readers: Mapping[str, list[Node]]) -> bool:
    return all(ops.rectifies(node.op) for node in readers.get(y.name, ())) and y.name in readers


def _affine(node: Node, read: Read) -> tuple[Floats, Floats] | None:
    """Scale and shift of a normalisation with stored statistics; None where it cannot be undone."""
    found = ops.AFFINE[node.op](node, read)
    if found is None:
        return None
    scale, shift = found
    return None if np.abs(scale).min() < TINY * np.abs(scale).max() else (scale, shift)
