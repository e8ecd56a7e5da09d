"""Mean and covariance of what a layer reads, as many rows as its inputs ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.calibration.activation_store import Batch
from onnxprune.calibration.moments import Moments, Statistics
from onnxprune.groups.layers import Layer

__all__ = ["SETTINGS", "covariance"]

#: Positions of each sample, at most and at least.
PLACES, FEWEST = 32, 4
#: Rows for each input, between those limits.
ROWS = 64
SETTINGS = (PLACES, FEWEST, ROWS)


def covariance(
    layer: Layer,
    shape: tuple[int, ...],
    batches: Sequence[Batch],
    samples: int,
    rng: np.random.Generator,
) -> Statistics:
    """Moments of the inputs of a layer whose stored weight has `shape`; without targets.

    `batches` hold the layer's data, and of its result at least the shape, of `samples` in all.
    """
    moments, inputs = Moments(), int(np.prod(shape)) // shape[layer.kernel.out_axis]
    most = min(max(-(-ROWS * inputs // samples), FEWEST), PLACES)
    for values in batches:
        out = values.shape(layer.node.outputs[0].name)
        places = layer.places(out, rng, most)
        rows = layer.inputs(values[layer.data.name], out, places, shape)
        rows = rows.astype(np.float32, copy=False)
        moments.add(rows, rows[:, :0])
    return moments.statistics()
