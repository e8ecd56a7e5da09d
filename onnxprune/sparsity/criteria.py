"""How much each number of a weight matters, by criteria that look at one weight at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.activation_statistics import ActivationStatistics, measure_statistics
from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds
from onnxprune.ir.runtime import Device
from onnxprune.ops.dequantize import as_real
from onnxprune.settings import CalibrationSettings
from onnxprune.sparsity.options import Sparsity
from onnxprune.sparsity.select import Scored
from onnxprune.sparsity.weights import Weight, weights_of
from onnxprune.types import Axis, Node, Read

__all__ = ["magnitudes", "randoms", "scored_by", "wanda"]

Array = NDArray[Any]


def magnitudes(nodes: Sequence[Node], read: Read) -> Callable[[Weight], Array]:
    """|w|, of quantised weights that of the real number."""
    real = as_real(nodes, read)

    def scores(weight: Weight) -> Array:
        values = real(weight.name)
        assert values is not None
        return np.abs(weight.laid(values)).astype(np.float32, copy=False)

    return scores


def randoms(seed: int) -> Callable[[Weight], Array]:
    """Any numbers, the same for the same seed and weight."""

    def scores(weight: Weight) -> Array:
        rng = np.random.default_rng([seed, *weight.name.encode()])
        return rng.random(weight.form, np.float32)

    return scores


def wanda(
    analysis: Analysis,
    weights: Sequence[Weight],
    batches: Iterable[Feeds],
    device: Device | None = None,
) -> Callable[[Weight], Array]:
    """|w| times the root mean square of what it is multiplied with (Sun et al., Wanda, 2023).

    Channel by channel; plain magnitude where nothing is known of the data.
    """
    at = {
        weight.name: analysis.roles.data[Axis(weight.name, weight.in_axis)]
        for weight in weights
        if weight.in_axis is not None and Axis(weight.name, weight.in_axis) in analysis.roles.data
    }
    axes = sorted(set(at.values()))
    known = measure_statistics(analysis, batches, axes=axes, device=device)
    plain = magnitudes(analysis.nodes, analysis.read)

    def scores(weight: Weight) -> Array:
        return plain(weight) * _norms(weight, known.get(at.get(weight.name, Axis("", 0))))

    return scores


def _norms(weight: Weight, profile: ActivationStatistics | None) -> Array:
    """(channels,) of a weight, or (rows, 1, channels) where groups of rows read their own."""
    rows, _, channels = weight.form
    if profile is None:
        return np.ones(1, np.float32)
    norms = np.sqrt(profile.square).astype(np.float32)
    groups, rest = divmod(len(norms), channels)
    if rest or rows % max(groups, 1):
        return np.ones(1, np.float32)
    return norms.reshape(groups, channels).repeat(rows // groups, 0)[:, None]


def scored_by(
    model: ModelProto, nodes: Sequence[Node], what: Sparsity, options: CalibrationSettings
) -> Scored:
    """Scores of every weight by a criterion that needs no least squares."""
    read = graph.reader(model)
    if what.criterion == "random":
        return Scored(randoms(options.seed))
    if what.criterion != "wanda":
        return Scored(magnitudes(nodes, read))
    analysis = analyze(model, options)
    data = calibration(options.calib, model, options, analysis.nodes)
    weights = weights_of(analysis.nodes, analysis.stored)
    return Scored(wanda(analysis, weights, data.batches, data.place.device), by_row=True)
