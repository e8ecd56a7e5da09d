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

from onnxprune import runtime
from onnxprune.aims import bias_of, readers_of
from onnxprune.calibration import Calibration
from onnxprune.carry import Carrier, suffix
from onnxprune.divergence import divergence
from onnxprune.layers import Layer
from onnxprune.moments import Floats, Moments, Statistics
from onnxprune.obs import ridged, shrinkage
from onnxprune.refitting import RIDGE
from onnxprune.settings import Settings
from onnxprune.sparse.sparsegpt import refit, swept
from onnxprune.sparse.sparsible import Weight
from onnxprune.survey import Survey

__all__ = ["allotted", "best_shares"]

Array = NDArray[Any]
#: Shares that a layer may lose.
LEVELS = np.round(np.arange(0.0, 0.981, 0.02), 2)
#: Positions of each sample that covariances are taken at.
PLACES = 16
#: Samples that divergence is measured on, at most and at least, and multiplications for all.
SAMPLES, LEAST, WORK = 512, 32, 1.2e12


def allotted(
    found: Survey,
    weights: Sequence[Weight],
    layers: Mapping[str, Layer],
    sparsity: float,
    how: tuple[Calibration, Settings],
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The share of each weight that goes, `sparsity` of all numbers; and what a report says.

    Args:
        found: the original.
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
    table = _Table(found, [layers[weight.name] for weight in known], data, sparsity)
    curves = table.run(lambda share: options.progress("measuring", 0.05 + 0.25 * share))
    sizes = [weight.size for weight in known]
    shares = best_shares(sizes, curves, sparsity * sum(sizes))
    told = (
        f"shares of {len(known)} layers follow from divergences measured on {table.samples} samples"
    )
    named = {weight.name: share for weight, share in zip(known, shares, strict=True)}
    return {**plain, **named}, (told,)


def best_shares(sizes: Sequence[int], curves: Sequence[Floats], dropped: float) -> list[float]:
    """Shares at which `dropped` numbers go in all with the least sum of divergences.

    `curves` hold the divergence of each layer at every share of `LEVELS`.
    """
    segments = []
    for k, (size, curve) in enumerate(zip(sizes, curves, strict=True)):
        hull = _hull(LEVELS * size, curve)
        for a, b in pairwise(hull):
            length = (LEVELS[b] - LEVELS[a]) * size
            segments.append(((curve[b] - curve[a]) / length, k, length))
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
        self, found: Survey, layers: Sequence[Layer], data: Calibration, sparsity: float
    ) -> None:
        self.found, self.data, self.sparsity = found, data, sparsity
        self.layers, self.nodes = layers, readers_of(found.nodes)
        each = float(found.cost.full[0]) / 2 * len(layers) / (max(data.sizes) if data.whole else 1)
        wanted = min(max(WORK / max(each, 1), LEAST), SAMPLES)
        count = min(len(data.sizes), max(1, round(wanted * len(data.sizes) / data.samples)))
        self.subset = [k * len(data.sizes) // count for k in range(count)]
        self.samples = sum(data.sizes[k] for k in self.subset)
        self.rng = np.random.default_rng(0)

    def run(self, progress: Any) -> list[Floats]:
        """(levels,) divergence of every layer, in their order."""
        read = self.found.read
        start = Carrier(self.found.model, self.data.batches, self._needed(), self.data.folder)
        whole, needs = suffix(start, 0, read, ())
        base = [
            runtime.run(whole, {name: start.values[k][name] for name in needs}) for k in self.subset
        ]
        order = start.order
        stops = sorted((order[la.node.outputs[0].name], k) for k, la in enumerate(self.layers))
        curves: dict[int, Floats] = {}
        for done, (at, k) in enumerate(stops):
            start.advance(at + 1, read)
            curves[k] = self._curve(start, at, self.layers[k], base)
            progress((done + 1) / len(stops))
        return [curves[k] for k in range(len(self.layers))]

    def _needed(self) -> dict[str, int]:
        """Data of layers is kept until they have run."""
        bare = Carrier(self.found.model, (), {}).order
        needed: dict[str, int] = {}
        for layer in self.layers:
            until = bare[layer.node.outputs[0].name] + 1
            needed[layer.data.name] = max(needed.get(layer.data.name, 0), until)
        return needed

    def _curve(self, carrier: Carrier, at: int, layer: Layer, base: Sequence[Any]) -> Floats:
        stored = self.found.read(layer.weight.name)
        assert stored is not None
        stats = self._statistics(carrier, layer, stored.shape)
        weight = layer.matrix(stored)
        left, amount = ridged(stats.cov, shrinkage(stats, RIDGE))
        result = swept(
            np.asarray(np.linalg.inv(left), np.float64),
            weight,
            round(float(LEVELS[-1]) * weight.size),
        )
        errors = result.errors(LEVELS * weight.size)
        mask = result.at(round(self.sparsity * weight.size))
        made = refit(left, stats.cov @ weight + amount * weight, weight, mask)
        name, _ = bias_of(layer, self.nodes, self.found.read)
        bias = self.found.read(name)
        assert bias is not None
        moved = bias.ravel() + (weight - made).T @ stats.mean_x
        fed = {layer.weight.name: layer.stored(made, stored)}
        fed[name] = moved.reshape(bias.shape).astype(bias.dtype)
        session, needs = suffix(carrier, at, self.found.read, sorted(fed))
        each = [
            divergence(
                own, runtime.run(session, {**{n: carrier.values[k][n] for n in needs}, **fed})
            )
            for own, k in zip(base, self.subset, strict=True)
        ]
        measured = float(np.average(each, weights=[self.data.sizes[k] for k in self.subset]))
        there = float(np.interp(self.sparsity, LEVELS, errors))
        return np.asarray(errors * (measured / max(there, 1e-30)))

    def _statistics(self, carrier: Carrier, layer: Layer, shape: tuple[int, ...]) -> Statistics:
        """Of what a layer reads, over all batches."""
        moments = Moments()
        for values in carrier.values:
            out = values.shape(layer.node.outputs[0].name)
            places = layer.places(out, self.rng, PLACES)
            rows = layer.inputs(values[layer.data.name], out, places, shape)
            rows = rows.astype(np.float32, copy=False)
            moments.add(rows, rows[:, :0])
        return moments.statistics()
