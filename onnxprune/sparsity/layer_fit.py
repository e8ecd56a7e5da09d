"""Fit one layer's mask and weights by least squares on its moments.

Some rows are held back (see `least_squares`): of several ridges the one with the least error there
is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.least_squares import LayerMoments
from onnxprune.compensation.obs import positive_inverse, ridged
from onnxprune.compensation.obs import refit as dense_refit
from onnxprune.sparsity.patterns import NofM
from onnxprune.sparsity.sparsegpt import Grouping, refit, swept
from onnxprune.types import Floats

__all__ = ["Masked", "Wanted", "fitted", "not_finite"]

#: Ridges that are tried, in shares of the mean variance: for dense weights, and given a mask.
DENSE_RIDGES, MASKED_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0), (1e-3, 1e-2, 1e-1)
#: The least ridge where masks are chosen.
LEAST_MASK_RIDGE = 1e-3


class Masked(NamedTuple):
    """(d, o) weight and mask, None for a dense layer, and (o,) bias."""

    weight: Floats
    bias: Floats
    mask: NDArray[np.bool_] | None


class Wanted(NamedTuple):
    """How many numbers of a weight go, in groups of which pattern, or the (d, o) mask itself."""

    dropped: int
    pattern: NofM | None = None
    mask: NDArray[np.bool_] | None = None


def not_finite(weight: str) -> str:
    """Say that a layer cannot be fitted, by the name of its weight."""
    return (
        f"weight '{weight}' holds NaN or infinity, or its layer reads or gives some on the "
        "calibration samples: correct the samples, or export the model again"
    )


def fitted(moments: LayerMoments, weight: Floats, wanted: Wanted | None, taps: int) -> Masked:
    """Fit the mask of a layer and the weights that stay.

    Args:
        moments: of what the layer reads and should give.
        weight: (d, o) as it is.
        wanted: what goes; None for a layer that stays dense.
        taps: columns that each input channel takes.
    """
    fit = moments.fit.statistics()
    held = moments.held.statistics() if moments.held.count else fit
    every = np.arange(len(weight))

    def error(made: Floats) -> float:
        return float(held.error(made).sum())

    options = [(ridge, dense_refit(fit, weight, every, ridge)) for ridge in DENSE_RIDGES]
    ridge, dense = min(options, key=lambda option: error(option[1]))
    if wanted is None:
        best = min((weight, dense), key=error)
        return Masked(best, fit.mean_y - best.T @ fit.mean_x, None)
    mask = wanted.mask
    if mask is None:
        left, _ = ridged(fit.cov, max(ridge, LEAST_MASK_RIDGE))
        pattern = wanted.pattern
        grouping = None if pattern is None else Grouping(pattern, len(weight) // taps)
        mask = swept(positive_inverse(left), dense, wanted.dropped, grouping).mask
    best = min((_given(fit, weight, mask, r) for r in MASKED_RIDGES), key=error)
    return Masked(best, fit.mean_y - best.T @ fit.mean_x, mask)


def _given(fit: Statistics, weight: Floats, mask: NDArray[np.bool_], ridge: float) -> Floats:
    left, amount = ridged(fit.cov, ridge)
    old = np.where(mask, weight, 0)
    return refit(left, fit.cross + amount * old, old, mask)
