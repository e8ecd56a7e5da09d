"""Round weights to eight bits in the forward pass, as quantisation will (quantisation-aware).

Gradients are taken at the rounded weights and move the exact ones (straight-through: Jacob et al.,
Quantization and training of neural networks for efficient integer-arithmetic-only inference, 2018).
Scales are symmetric, so that zeros stay zero: of a whole weight, or of each output channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.training.parameters import LayerParameter, Parameter

__all__ = ["rounded", "rounded_axes"]

#: Largest integer of a weight.
LARGEST = 127
Array = NDArray[Any]


def rounded_axes(parameters: Sequence[Parameter], grain: str | None) -> dict[str, int | None]:
    """By name of a layer's weight the axis whose positions have own scales, None: there is one.

    Args:
        parameters: those that are trained.
        grain: `tensor` or `channel`, None: nothing is rounded.
    """
    layers = [one.tuned.layer for one in parameters if isinstance(one, LayerParameter)]
    if grain is None:
        return {}
    channel = grain == "channel"
    return {one.weight.name: one.kernel.out_axis if channel else None for one in layers}


def rounded(weights: Mapping[str, Array], axes: Mapping[str, int | None]) -> dict[str, Array]:
    """Weights by name, those in `axes` rounded to eight bits."""
    return {
        name: _rounded(array, axes[name]) if name in axes else array
        for name, array in weights.items()
    }


def _rounded(weight: Array, axis: int | None) -> Array:
    others = tuple(k for k in range(weight.ndim) if k != axis) if axis is not None else None
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest, 1) / LARGEST
    return (np.rint(weight / scale) * scale).astype(weight.dtype)
