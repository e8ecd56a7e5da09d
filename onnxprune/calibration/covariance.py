"""Measure mean and covariance of what a layer reads, on as many rows as its width asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnxprune.calibration.activation_store import Batch
from onnxprune.calibration.moments import Moments, Statistics, finite_rows
from onnxprune.groups.layers import Layer

__all__ = ["SETTINGS", "covariance"]

#: Output positions taken of each sample: at most, and at least.
MOST_POSITIONS, LEAST_POSITIONS = 32, 4
#: Rows for each input of the layer, within those limits.
ROWS_PER_INPUT = 64
#: What results depend on, for keys of caches.
SETTINGS = (MOST_POSITIONS, LEAST_POSITIONS, ROWS_PER_INPUT)


def covariance(
    layer: Layer,
    shape: tuple[int, ...],
    batches: Sequence[Batch],
    samples: int,
    rng: np.random.Generator,
) -> Statistics:
    """Measure the moments of a layer's inputs; there are no targets (o = 0).

    Args:
        layer: whose inputs.
        shape: of its stored weight.
        batches: hold what the layer reads, and of its result at least the shape.
        samples: how many the batches hold in all.
        rng: draws the output positions.
    """
    moments = Moments()
    inputs = math.prod(shape) // shape[layer.kernel.out_axis]
    wanted = -(-ROWS_PER_INPUT * inputs // samples)
    positions = min(max(wanted, LEAST_POSITIONS), MOST_POSITIONS)
    for values in batches:
        out = values.shape(layer.node.outputs[0].name)
        places = layer.places(out, rng, positions)
        rows = layer.inputs(values[layer.data.name], out, places, shape)
        (rows,) = finite_rows(rows.astype(np.float32, copy=False))
        moments.add(rows, rows[:, :0])
    return moments.statistics()
