"""See a convolution's input as channels alone: one covariance of channels, one of taps.

What a kernel's window sees of a channel at two taps varies together nearly as it does for any other
channel, so that the covariance of all inputs is about a product T ⊗ K of one between taps (k, k)
and one between channels (n, n) (Grosse & Martens, 2016, who take T for the identity). Then

    tr(Wᵀ (T ⊗ K) W) = tr(Vᵀ K V)   with   V = T^½ W   as (n, k · o),

a layer with one input for each channel. Its inverse takes k³ times less work, and each entry of K
is estimated from k times as many numbers. Rows of V are scaled so that what each channel alone
gives keeps its exact size.
"""

from __future__ import annotations

import numpy as np

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.least_squares import RIDGE
from onnxprune.compensation.obs import LayerProblem, shrinkage
from onnxprune.types import Floats, Ints

__all__ = ["over_channels", "ranking_problem"]


def ranking_problem(
    statistics: Statistics, weight: Floats, columns: Ints, taps: int, most: int = 0
) -> LayerProblem:
    """State by what a layer ranks channels: all of its inputs, or one for each of them.

    Args:
        statistics: of its inputs.
        weight: (taps · n, o).
        columns: (n_channels, k · taps) inputs that hold each channel.
        taps: inputs that hold the same channel.
        most: inputs up to which each counts by itself.
    """
    ridge = shrinkage(statistics, RIDGE)
    if taps == 1 or len(weight) <= most:
        return LayerProblem(statistics.cov, weight, columns, ridge)
    cov, weight = over_channels(statistics.cov, weight, taps)
    return LayerProblem(cov, weight, columns[:, ::taps], ridge)


def over_channels(cov: Floats, weight: Floats, taps: int) -> tuple[Floats, Floats]:
    """Reduce a convolution to a layer with one input for each channel.

    Args:
        cov: (taps · n, taps · n) covariance of the inputs, tap by tap.
        weight: (taps · n, o).
        taps: inputs that hold the same channel.

    Returns:
        (n, n) covariance of channels, (n, taps · o) weight.
    """
    n, o = len(cov) // taps, weight.shape[1]
    split = cov.reshape(taps, n, taps, n)
    channels = np.einsum("tctd->cd", split) / taps
    between = np.einsum("tcuc->tu", split) / max(float(np.trace(channels)), 1e-30)
    values, vectors = np.linalg.eigh(between)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    wide = weight.reshape(taps, n, o)
    mixed = np.einsum("tu,uco->cto", root, wide, optimize=True)
    own = np.einsum("tco,tuc,uco->c", wide, np.einsum("tcuc->tuc", split), wide, optimize=True)
    seen = np.diagonal(channels) * (mixed**2).sum((1, 2))
    scale = np.sqrt(np.maximum(own, 0) / np.maximum(seen, 1e-30))
    return channels, (mixed * scale[:, None, None]).reshape(n, taps * o)
