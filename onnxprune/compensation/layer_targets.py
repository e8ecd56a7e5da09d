"""Say what a refitted layer should give: the original's value where its result is next added.

Behind a layer there may be a bias, a BatchNormalization and a residual sum. The target is the
original's sum minus what the pruned model already brings to it on the other path, so that the
layer repairs what earlier layers broke (asymmetric reconstruction: Zhang et al., TPAMI 2016;
residual correction: He et al., Channel pruning, ICCV 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.layers import Layer, bias_of, other_operand
from onnxprune.types import Floats, Node, Read, Tensor

__all__ = ["LayerTarget", "layer_target"]

#: A normalisation is undone only if its least scale is above this share of the largest.
LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class LayerTarget:
    """The target of a layer: (`tensor` of the original - `minus` of the pruned - shift) / scale.

    Attributes:
        tensor: what is compared, of the original.
        minus: what the pruned model adds to the layer's result, None for nothing.
        scale: (o,) of the normalisation between the layer and the tensor, None without one.
        shift: (o,) of the normalisation.
        clipped: whether a Relu alone reads the tensor, so that any value below zero is as good.
        added: (o,) what the tensor should have more than the original's, for blocks behind it.
    """

    tensor: str
    minus: str | None
    scale: Floats | None = None
    shift: Floats | None = None
    clipped: bool = False
    added: Floats | None = None

    def wanted(self, original: NDArray[Any]) -> NDArray[Any]:
        """What the model in the making should have, from rows (m, o) of the original's tensor."""
        return original if self.added is None else np.asarray(original + self.added, original.dtype)

    def rows(self, original: NDArray[Any], other: NDArray[Any] | None) -> NDArray[Any]:
        """The target (m, o), from rows (m, o) of `tensor` as wanted and of `minus`."""
        target = original if other is None else original - other
        if self.scale is None or self.shift is None:
            return target
        return np.asarray((target - self.shift) / self.scale, original.dtype)


def layer_target(
    layer: Layer,
    readers: Mapping[str, list[Node]],
    read: Read,
    available: Callable[[str], bool],
) -> LayerTarget:
    """Find the target of a layer.

    Args:
        layer: which.
        readers: the nodes that read each tensor.
        read: the content of stored tensors.
        available: whether the pruned model has computed a tensor when the layer runs.
    """
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
        other = other_operand(following[0], y)
        added = following[0].outputs[0]
        fits = other is not None and not other.constant and other.shape == y.shape == added.shape
        if fits and other is not None and available(other.name):
            return LayerTarget(added.name, other.name, scale, shift, _clipped(added, readers))
    clipped = _clipped(y, readers)
    return LayerTarget(y.name, None, scale, shift, clipped) if clipped else LayerTarget(plain, None)


def _clipped(y: Tensor, readers: Mapping[str, list[Node]]) -> bool:
    """Whether Relus alone read a tensor."""
    return all(ops.rectifies(node.op) for node in readers.get(y.name, ())) and y.name in readers


def _affine(node: Node, read: Read) -> tuple[Floats, Floats] | None:
    """Scale and shift (o,) of a normalisation by stored statistics; None if it cannot be undone."""
    found = ops.AFFINE[node.op](node, read)
    if found is None:
        return None
    scale, shift = found
    return None if np.abs(scale).min() < LEAST_SCALE * np.abs(scale).max() else (scale, shift)
