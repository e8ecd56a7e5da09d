"""Measure what layers read, on the original and all samples, a few layers at a time.

The operators up to the last of a few layers run as one session: what only lies between them is
looked at batch by batch, and never kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from onnxprune.calibration.covariance import InputMoments
from onnxprune.calibration.incremental_run import IncrementalRun
from onnxprune.calibration.moments import Statistics
from onnxprune.calibration.samples import Calibration
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer
from onnxprune.importance.stored_layer import name_of

__all__ = ["LayerWalk"]

#: Layers that are measured together at most, and numbers of their covariances.
LAYERS, NUMBERS = 8, 2**22


class LayerWalk:
    """The original on all samples, at one point of its order of operators.

    Attributes:
        order: the number of the operator that makes each tensor.
        steps: layers that are measured together, in their order.
    """

    def __init__(self, analysis: Analysis, layers: Sequence[Layer], data: Calibration) -> None:
        """Stand before the first operator.

        Args:
            analysis: the original.
            layers: whose inputs are measured.
            data: calibration data.
        """
        self._analysis, self._data = analysis, data
        self._run = IncrementalRun(analysis.model, data.batches, data.place)
        self.order = self._run.order
        named = {self.order[name_of(layer)]: layer for layer in layers}
        self.steps = _steps([layer for _, layer in sorted(named.items())], analysis.stored)

    def advance(self, step: Sequence[Layer]) -> dict[str, Statistics]:
        """Moments of what the layers of the next step read, by `name_of` them.

        Layers are left out for which no sample gives finite numbers.
        """
        analysis, samples = self._analysis, self._data.samples
        ends = [self.order[name_of(layer)] for layer in step]
        moments = [
            InputMoments(layer, analysis.stored[layer.weight.name], samples, rng)
            for layer, rng in zip(step, map(np.random.default_rng, ends), strict=True)
        ]
        sizes = [_sizes(layer) for layer in step]
        names = {layer.data.name for layer in step}
        names |= {name_of(la) for la, known in zip(step, sizes, strict=True) if known is None}
        for values in self._run.shown(max(ends) + 1, analysis.read, names):
            for layer, own, known in zip(step, moments, sizes, strict=True):
                x = values[layer.data.name]
                own.add(x, values[name_of(layer)].shape if known is None else (len(x), *known))
        found = {}
        for layer, own in zip(step, moments, strict=True):
            with suppress(ArithmeticError):
                found[name_of(layer)] = own.statistics()
        return found


def _sizes(layer: Layer) -> tuple[int, ...] | None:
    """Sizes of a convolution's result behind the batch; None where samples may differ in them."""
    result = layer.node.outputs[0]
    known = [result.size(axis) for axis in range(1, result.rank)]
    sizes = tuple(size for size in known if size is not None)
    return sizes if sizes and len(sizes) == len(known) and not layer.dense else None


def _steps(layers: Sequence[Layer], stored: Mapping[str, tuple[int, ...]]) -> list[list[Layer]]:
    """Split layers into those that are measured together."""
    steps, numbers = list[list[Layer]](), 0
    for layer in layers:
        shape = stored[layer.weight.name]
        own = (math.prod(shape) // shape[layer.kernel.out_axis]) ** 2
        if not steps or len(steps[-1]) == LAYERS or numbers + own > NUMBERS:
            steps.append([])
            numbers = 0
        steps[-1].append(layer)
        numbers += own
    return steps
