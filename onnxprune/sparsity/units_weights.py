"""The numbers of a layer's weight as a unit of the sensitivity pass.

A layer is swept once by `sparsegpt.swept` on the original's activations, which gives its error by
how much of it is gone. The model is run at one share, with only that layer sparse and refitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.least_squares import RIDGE
from onnxprune.compensation.obs import positive_inverse, ridged, shrinkage
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.groups.units import Unit
from onnxprune.importance.output_divergence import Weights
from onnxprune.importance.sensitivity import Measurable, Measured, Response
from onnxprune.importance.stored_layer import name_of, stored_layer
from onnxprune.sparsity.layer_fit import not_finite
from onnxprune.sparsity.sparsegpt import refit, swept
from onnxprune.sparsity.weights import Weight, weights_of
from onnxprune.types import Floats

__all__ = ["SHARES", "layers_by_weight", "weight_unit", "weight_units"]

#: Shares of a weight that may go.
SHARES = np.round(np.arange(0.0, 0.981, 0.02), 2)


def layers_by_weight(analysis: Analysis) -> dict[str, Layer]:
    """The layers whose single weights can be refitted, by the name of their weight."""
    readers = analysis.index.readers
    return {
        layer.weight.name: layer
        for layer in analysis.refittable
        if not layer.depthwise and bias_of(layer, readers, analysis.read)[0]
    }


def weight_units(
    analysis: Analysis, arrays: Mapping[str, NDArray[Any]], names: Sequence[str], share: float
) -> list[Measurable[Measured]]:
    """Say how the weights `names` are measured; nothing is needed beside the analysis.

    Args:
        analysis: the original.
        arrays: none.
        names: of the weights.
        share: of the numbers of each that are gone where the model is run.
    """
    assert not arrays
    layers = layers_by_weight(analysis)
    known = {weight.name: weight for weight in weights_of(analysis.nodes, analysis.stored)}
    return [weight_unit(analysis, known[name], layers[name], share) for name in names]


def weight_unit(
    analysis: Analysis, weight: Weight, layer: Layer, share: float
) -> Measurable[Measured]:
    """Say how the numbers of a weight are measured.

    Args:
        analysis: the original.
        weight: whose numbers go.
        layer: that multiplies with it.
        share: of the numbers that are gone where the model is run.
    """
    unit = Unit(weight.name, "numbers", weight.size - (SHARES * weight.size)[::-1])

    def respond(statistics: Mapping[str, Statistics]) -> Response[Measured]:
        stored = stored_layer(layer, analysis)
        inputs, matrix = statistics[name_of(layer)], stored.matrix
        if not (np.isfinite(inputs.cov).all() and np.isfinite(matrix).all()):
            raise ArithmeticError(not_finite(weight.name))
        left, ridge = ridged(inputs.cov, shrinkage(inputs, RIDGE))
        gone = swept(positive_inverse(left), matrix, round(float(SHARES[-1]) * weight.size))
        errors = gone.errors(weight.size - unit.levels)

        def weights(stays: float) -> Weights:
            mask = gone.at(round(weight.size - stays))
            target = inputs.cov @ matrix + ridge * matrix
            return stored.changed(refit(left, target, matrix, mask), inputs.mean_x)

        scaled: Floats = errors / max(float(errors[0]), 1e-30)
        return Response(scaled, weights, lambda measured: measured)

    stays = weight.size - share * weight.size

    def failed(why: str) -> Measured:
        return Measured(np.zeros(len(unit.levels)), {}, 0, why)

    return Measurable(unit, lambda _runs: [stays], respond, failed, (layer,), [weight.name])
