"""One layer's mask and weights by least squares on its moments.

Some rows are held back (see `refitting`): of several ridges the one with the least error there is
taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.least_squares import LayerMoments
from onnxprune.compensation.obs import refit as dense_refit
from onnxprune.compensation.obs import ridged
from onnxprune.sparsity.patterns import NofM
from onnxprune.sparsity.sparsegpt import inverse_of, refit, swept
from onnxprune.types import Floats

__all__ = ["Masked", "Wanted", "fitted"]

#: Ridges, in shares of the mean variance, for dense weights and given a mask.
RIDGES, GIVEN = (1e-4, 1e-3, 1e-2, 1e-1, 1.0), (1e-3, 1e-2, 1e-1)
#: Least ridge where masks are chosen.
LEAST = 1e-3


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


def fitted(moments: LayerMoments, weight: Floats, wanted: Wanted | None, taps: int) -> Masked:
    """A layer's mask and the weights that stay, (d, o) from `weight`."""
    fit = moments.fit.statistics()
    held = moments.held.statistics() if moments.held.count else fit
    every = np.arange(len(weight))

    def error(made: Floats) -> float:
        return float(held.error(made).sum())

    options = [(ridge, dense_refit(fit, weight, every, ridge)) for ridge in RIDGES]
    ridge, dense = min(options, key=lambda option: error(option[1]))
    if wanted is None:
        best = min((weight, dense), key=error)
        return Masked(best, fit.mean_y - best.T @ fit.mean_x, None)
    mask = wanted.mask
    if mask is None:
        left, _ = ridged(fit.cov, max(ridge, LEAST))
        groups = None if wanted.pattern is None else (wanted.pattern, len(weight) // taps)
        mask = swept(inverse_of(left), dense, wanted.dropped, groups).mask
    best = min((_given(fit, weight, mask, r) for r in GIVEN), key=error)
    return Masked(best, fit.mean_y - best.T @ fit.mean_x, mask)


def _given(fit: Statistics, weight: Floats, mask: NDArray[np.bool_], ridge: float) -> Floats:
    left, amount = ridged(fit.cov, ridge)
    old = np.where(mask, weight, 0)
    return refit(left, fit.cross + amount * old, old, mask)
