"""Mean and covariance of channels behind layers and normalisations.

A convolution makes W C Wᵀ of the covariance C that it reads. Behind a normalisation channel c has
mean β_c and standard deviation |γ_c|, as in training; how channels move together follows from the
layer before it, scaled to the variances that the normalisation stores. Neighbours in space are
correlated by one number, chosen where the stored variances fit best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.facets import LAYERS
from onnxprune.ops.moments import NEAR, Array, Estimate, Estimates, Linear
from onnxprune.types import Floats, Node, Tensor

__all__ = ["multiplied", "normalised"]

#: Correlations of neighbours in space that are tried.
NEIGHBOURS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97)


def multiplied(node: Node, given: Estimates) -> Estimate | None:
    """Send channels through a layer that no normalisation follows."""
    layer, data = given.layer(node), given.of(node)
    stored = given.read(layer.weight.name) if layer is not None else None
    if data is None or layer is None or stored is None or not _fits(layer, stored, len(data.mean)):
        return None
    bias = given.read(layer.bias.name) if layer.bias is not None else None
    if layer.dense:
        weight = layer.matrix(stored)
        mean, cov = data.mean @ weight, weight.T @ data.cov @ weight
    else:
        taps = stored.reshape(*stored.shape[:2], -1).sum(2, dtype=np.float64)
        mean = taps[:, 0] * data.mean if layer.depthwise else taps @ data.mean
        cov = _covariance(stored, data.cov, NEAR, layer.depthwise)
    return Estimate(mean if bias is None else mean + bias, cov)


def _fits(layer: Linear, stored: Array, channels: int) -> bool:
    """Whether a layer takes as many channels as are known; a damaged model's may not."""
    if layer.data.size(1) != channels:
        return False
    if layer.dense:
        return len(layer.matrix(stored)) == channels
    return bool(stored.shape[0 if layer.depthwise else 1] == channels)


def normalised(node: Node, given: Estimates) -> Estimate | None:
    """Take means and scales from a normalisation, and correlations from the layer before it."""
    parts = [given.read(t.name) if t is not None else None for t in node.inputs[1:5]]
    if any(part is None for part in parts):
        return None
    gamma, beta, _, variance = (np.asarray(part, np.float64) for part in parts)
    correlation = _correlation(node.inputs[0], variance, given)
    return Estimate(beta, correlation * np.outer(gamma, gamma), anchored=True)


def _correlation(made: Tensor | None, variance: Floats, given: Estimates) -> Floats:
    """(n, n) correlation of what a normalisation reads, from the convolution before it."""
    nothing = np.eye(len(variance))
    maker = given.makers.get(made.name) if made is not None else None
    form = LAYERS.get(maker.op) if maker is not None else None
    convolves = maker is not None and form is not None and form.kind == "convolution"
    layer = given.layer(maker) if maker is not None and convolves else None
    data = given.known.get(layer.data.name) if layer is not None else None
    stored = given.read(layer.weight.name) if layer is not None else None
    if layer is None or data is None or stored is None:
        return nothing
    taps = _taps(stored, data.cov, layer.depthwise)
    own = np.diag(data.cov) if layer.depthwise else 1.0
    rho = min(NEIGHBOURS, key=lambda rho: _misfit(taps.variances(rho) * own, variance))
    best = taps.covariance(rho) * (data.cov if layer.depthwise else 1.0)
    std = np.sqrt(np.maximum(np.diag(best), 1e-24))
    found: Floats = best / np.outer(std, std)
    return found


def _misfit(guess: Floats, variance: Floats) -> float:
    """Spread of the ratio between guessed and stored variances."""
    return float(np.std(np.log(np.maximum(guess, 1e-24)) - np.log(np.maximum(variance, 1e-24))))


@dataclass(frozen=True)
class _Taps:
    """A convolution (o, n, …) over channels with a covariance, before neighbours are looked at.

    Attributes:
        weight: (o, t, n) its numbers by output, tap and channel; depthwise (o, t, 1).
        read: (o, t, n) the same times the covariance of what is read; depthwise `weight` itself.
        distance: (t, t) between taps, in positions.
    """

    weight: Floats
    read: Floats
    distance: Floats

    def mixed(self, rho: float) -> Floats:
        """(t, t) correlation of what two taps read, where that of neighbours is `rho`."""
        return np.where(self.distance == 0, 1.0, rho**self.distance if rho else 0.0)

    def variances(self, rho: float) -> Floats:
        """(o,) the diagonal of `covariance`, for a small part of its work."""
        found: Floats = (self._pairs * self.mixed(rho)).sum((1, 2))
        return found

    def covariance(self, rho: float) -> Floats:
        """(o, o) of what the convolution gives; depthwise to be multiplied with the covariance."""
        weight = self.weight if len(self.distance) == 1 else self.mixed(rho) @ self.weight
        outputs = len(weight)
        found: Floats = self.read.reshape(outputs, -1) @ weight.reshape(outputs, -1).T
        return found

    @cached_property
    def _pairs(self) -> Floats:
        """(o, t, t) products of every two taps, summed over channels."""
        return np.asarray(self.read @ self.weight.swapaxes(1, 2))


def _taps(stored: NDArray[Any], cov: Floats, depthwise: bool) -> _Taps:
    """Send channels with covariance `cov` (n, n) through each tap of a convolution (o, n, …)."""
    places = np.array(list(np.ndindex(*stored.shape[2:])), np.float64)
    distance = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    flat = stored.reshape(*stored.shape[:2], -1).swapaxes(1, 2).astype(np.float64, order="C")
    if depthwise:
        return _Taps(flat, flat, distance)
    return _Taps(flat, (flat.reshape(-1, len(cov)) @ cov).reshape(flat.shape), distance)


def _covariance(stored: NDArray[Any], cov: Floats, rho: float, depthwise: bool) -> Floats:
    """(o, o) of a convolution (o, n, …) over channels with `cov`, neighbours correlated by rho."""
    made = _taps(stored, cov, depthwise).covariance(rho)
    return made * cov if depthwise else made
