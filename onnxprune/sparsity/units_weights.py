"""The numbers of a layer's weight as a unit of the sensitivity pass.

A layer is swept once by `sparsegpt.swept` on the original's activations, which gives its error by
how much of it is gone. The model is run at one share, with only that layer sparse and refitted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.least_squares import RIDGE
from onnxprune.compensation.obs import ridged, shrinkage
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer
from onnxprune.groups.units import Unit
from onnxprune.importance.output_divergence import Weights
from onnxprune.importance.sensitivity import Measurable, Measured, Response
from onnxprune.importance.stored_layer import name_of, stored_layer
from onnxprune.sparsity.layer_fit import not_finite
from onnxprune.sparsity.sparsegpt import inverse_of, refit, swept
from onnxprune.sparsity.weights import Weight
from onnxprune.types import Floats

__all__ = ["SHARES", "weight_unit"]

#: Shares of a weight that may go.
SHARES = np.round(np.arange(0.0, 0.981, 0.02), 2)


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
        gone = swept(inverse_of(left), matrix, round(float(SHARES[-1]) * weight.size))
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
