"""Mean and covariance of channels behind layers and normalisations.

A convolution makes W C Wᵀ of the covariance C that it reads. Behind a normalisation channel c has
mean β_c and standard deviation |γ_c|, as in training; how channels move together follows from the
layer before it, scaled to the variances that the normalisation stores. Neighbours in space are
correlated by one number, chosen where the stored variances fit best.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        cov = _Taps.of(stored, data.cov, layer.depthwise).covariance(NEAR)
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
    taps = _Taps.of(stored, data.cov, layer.depthwise)
    best = min(NEIGHBOURS, key=lambda rho: _misfit(taps.variances(rho), variance))
    cov = taps.covariance(best)
    std = np.sqrt(np.maximum(np.diag(cov), 1e-24))
    found: Floats = cov / np.outer(std, std)
    return found


def _misfit(guess: Floats, variance: Floats) -> float:
    """Spread of the ratio between guessed and stored variances."""
    return float(np.std(np.log(np.maximum(guess, 1e-24)) - np.log(np.maximum(variance, 1e-24))))


@dataclass(frozen=True)
class _Taps:
    """A convolution's taps, alone and multiplied by the covariance that they read.

    The product with the covariance, which costs most, is the same for every correlation in space,
    and variances need no more than the diagonal.

    Attributes:
        own: (o, t, n) the taps of every filter.
        read: (o, t, n) own · C; with one channel for each filter own itself.
        distance: (t, t) between taps, in positions.
        cov: (o, o) what a product of two filters is multiplied by.
    """

    own: Floats
    read: Floats
    distance: Floats
    cov: Floats | float

    @classmethod
    def of(cls, weight: NDArray[Any], cov: Floats, depthwise: bool) -> _Taps:
        """Take the taps of a stored weight (o, n, …) over channels with `cov` (n, n)."""
        places = np.array(list(np.ndindex(*weight.shape[2:])), np.float64)
        distance = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
        own = weight.reshape(*weight.shape[:2], -1).astype(np.float64)
        own = np.ascontiguousarray(np.moveaxis(own, 1, 2))
        read = own if depthwise else (own.reshape(-1, len(cov)) @ cov).reshape(own.shape)
        return cls(own, read, distance, cov if depthwise else 1.0)

    def variances(self, rho: float) -> Floats:
        """(o,) variances with neighbours correlated by `rho`."""
        scale = np.diag(self.cov) if isinstance(self.cov, np.ndarray) else self.cov
        found: Floats = (self._mixed(rho) * self.own).sum((1, 2)) * scale
        return found

    def covariance(self, rho: float) -> Floats:
        """(o, o) covariance with neighbours correlated by `rho`."""
        size = len(self.own)
        made: Floats = self._mixed(rho).reshape(size, -1) @ self.own.reshape(size, -1).T
        return made * self.cov

    def _mixed(self, rho: float) -> Floats:
        space = np.where(self.distance == 0, 1.0, rho**self.distance if rho else 0.0)
        return space @ self.read  # symmetric
