"""How much goes of each layer: a measured table of divergences and the best shares for a total.

Every layer is swept once by `sparsegpt.swept` on the original's activations, which gives its error
by how much of it is gone. At one share the model runs on calibration samples with only that layer
sparse, and the divergence of the outputs is recorded: elsewhere it follows the layer's error
(Frantar & Alistarh, SPDY, 2022). The shares with the least sum of divergences for a total follow by
Lagrangian relaxation on the lower convex hulls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.covariance import covariance
from onnxprune.calibration.incremental_run import IncrementalRun
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.least_squares import RIDGE
from onnxprune.compensation.obs import ridged, shrinkage
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.importance.output_divergence import OutputDivergence
from onnxprune.settings import RunSettings
from onnxprune.sparsity.sparsegpt import inverse_of, refit, swept
from onnxprune.sparsity.weights import Weight
from onnxprune.types import Floats

__all__ = ["allotted", "best_shares"]

Array = NDArray[Any]
#: Shares that a layer may lose.
LEVELS = np.round(np.arange(0.0, 0.981, 0.02), 2)


def allotted(
    analysis: Analysis,
    weights: Sequence[Weight],
    layers: Mapping[str, Layer],
    sparsity: float,
    how: tuple[Calibration, RunSettings],
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The share of each weight that goes, `sparsity` of all numbers; and what a report says.

    Args:
        analysis: the original.
        weights: what competes; those that are no layers lose `sparsity` like all together.
        layers: by the name of their weight.
        sparsity: the share of all.
        how: samples, and whom to tell about progress.
    """
    known = [weight for weight in weights if weight.name in layers]
    plain = {weight.name: sparsity for weight in weights if weight.name not in layers}
    if len(known) < 2 or not sparsity:
        return {**plain, **{weight.name: sparsity for weight in known}}, ()
    data, options = how
    table = _Table(analysis, [layers[weight.name] for weight in known], data, sparsity)
    sensitivities = table.run(lambda share: options.progress("measuring", 0.05 + 0.25 * share))
    sizes = [weight.size for weight in known]
    shares = best_shares(sizes, sensitivities, sparsity * sum(sizes))
    samples = f"{table.divergences.samples} samples"
    told = f"shares of {len(known)} layers follow from divergences measured on {samples}"
    named = {weight.name: share for weight, share in zip(known, shares, strict=True)}
    return {**plain, **named}, (told,)


def best_shares(
    sizes: Sequence[int], sensitivities: Sequence[Floats], dropped: float
) -> list[float]:
    """Shares at which `dropped` numbers go in all with the least sum of divergences.

    `sensitivities` hold the divergence of each layer at every share of `LEVELS`.
    """
    segments = []
    for k, (size, sensitivity) in enumerate(zip(sizes, sensitivities, strict=True)):
        hull = _hull(LEVELS * size, sensitivity)
        for a, b in pairwise(hull):
            length = (LEVELS[b] - LEVELS[a]) * size
            segments.append(((sensitivity[b] - sensitivity[a]) / length, k, length))
    gone = np.zeros(len(sizes))
    for _, k, length in sorted(segments):
        taken = min(length, dropped - gone.sum())
        if taken <= 0:
            break
        gone[k] += taken
    return [float(g / size) for g, size in zip(gone, sizes, strict=True)]


def _hull(x: Floats, y: Floats) -> list[int]:
    """Numbers of the points on the lower convex hull, from left to right."""
    hull: list[int] = []
    for k in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[k] - x[a]) < (y[k] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(k)
    return hull


class _Table:
    """One pass through the original."""

    def __init__(
        self, analysis: Analysis, layers: Sequence[Layer], data: Calibration, sparsity: float
    ) -> None:
        self.analysis, self.data, self.sparsity = analysis, data, sparsity
        self.layers, self.nodes = layers, analysis.index.readers
        self.divergences = OutputDivergence(analysis, data, len(layers) // 2)
        self.rng = np.random.default_rng(0)

    def run(self, progress: Any) -> list[Floats]:
        """(levels,) divergence of every layer, in their order."""
        incremental = IncrementalRun(
            self.analysis.model, self.data.batches, self._needed(), self.data.folder
        )
        order = self.divergences.order
        stops = sorted((order[la.node.outputs[0].name], k) for k, la in enumerate(self.layers))
        sensitivities: dict[int, Floats] = {}
        for done, (at, k) in enumerate(stops):
            incremental.advance(at + 1, self.analysis.read)
            sensitivities[k] = self._curve(incremental, at, self.layers[k])
            progress((done + 1) / len(stops))
        return [sensitivities[k] for k in range(len(self.layers))]

    def _needed(self) -> dict[str, int]:
        """Data of layers is kept until they have run."""
        order = self.divergences.order
        needed: dict[str, int] = {}
        for layer in self.layers:
            until = order[layer.node.outputs[0].name] + 1
            needed[layer.data.name] = max(needed.get(layer.data.name, 0), until)
        return needed

    def _curve(self, incremental: IncrementalRun, at: int, layer: Layer) -> Floats:
        stored = self.analysis.read(layer.weight.name)
        assert stored is not None
        stats = covariance(layer, stored.shape, incremental.values, self.data.samples, self.rng)
        weight = layer.matrix(stored)
        left, amount = ridged(stats.cov, shrinkage(stats, RIDGE))
        result = swept(
            inverse_of(left),
            weight,
            round(float(LEVELS[-1]) * weight.size),
        )
        errors = result.errors(LEVELS * weight.size)
        mask = result.at(round(self.sparsity * weight.size))
        made = refit(left, stats.cov @ weight + amount * weight, weight, mask)
        name, _ = bias_of(layer, self.nodes, self.analysis.read)
        bias = self.analysis.read(name)
        assert bias is not None
        moved = bias.ravel() + (weight - made).T @ stats.mean_x
        fed = {layer.weight.name: layer.stored(made, stored)}
        fed[name] = moved.reshape(bias.shape).astype(bias.dtype)
        measured = self.divergences.opened(at, fed)(fed)
        there = float(np.interp(self.sparsity, LEVELS, errors))
        return np.asarray(errors * (measured / max(there, 1e-30)))
