"""Measure how far outputs are from the original's: one number, zero when they are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Floats

__all__ = ["divergence", "is_scores", "log_probabilities", "relative_error"]

#: Sums of rows that are this close to one are taken for probabilities.
SUM_TOLERANCE = 1e-3
#: Least probability whose logarithm is taken.
LEAST_PROBABILITY = 1e-9


def divergence(
    original: Mapping[str, NDArray[Any]],
    other: Mapping[str, NDArray[Any]],
    weights: Floats | None = None,
) -> float:
    """Sum the divergence of all outputs of floating point.

    Class scores count by their Kullback-Leibler divergence, anything else by its squared error
    relative to the variance.

    Args:
        original: outputs by name.
        other: outputs of the changed model; where one is missing nothing changed it.
        weights: (n,) how often each sample counts, in class scores.
    """
    total = 0.0
    for name, array in original.items():
        if name in other and np.issubdtype(array.dtype, np.floating) and array.size:
            a, b = array.astype(np.float64), other[name].astype(np.float64)
            if is_scores(a) and np.isfinite(a).all():
                total += _kullback_leibler(a, b, weights)
            else:
                total += relative_error(a, b)
    return total


def is_scores(array: NDArray[Any]) -> bool:
    """Whether an output looks like class scores or probabilities: (n, classes) floats."""
    return array.ndim == 2 and array.shape[1] > 1 and np.issubdtype(array.dtype, np.floating)


def _kullback_leibler(a: Floats, b: Floats, weights: Floats | None) -> float:
    """Mean over samples of the divergence of `b` from `a`, both (n, classes)."""
    p, q = log_probabilities(a), log_probabilities(b)
    each = (np.exp(p) * (p - q)).sum(1)
    fits = weights is not None and len(weights) == len(each)
    return float(np.average(each, weights=weights if fits else None))


def log_probabilities(rows: Floats) -> Floats:
    """(n, classes) logarithms of probabilities, from rows of scores or of probabilities."""
    if (rows >= 0).all() and np.allclose(rows.sum(1), 1, atol=SUM_TOLERANCE):
        logs: Floats = np.log(np.maximum(rows, LEAST_PROBABILITY))
        return logs
    shifted = rows - rows.max(1, keepdims=True)
    scaled: Floats = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return scaled


def relative_error(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean squared error of `b`, divided by the variance of `a`, in double precision.

    Where `a` holds no finite number there is nothing to compare with.
    """
    a, b = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    if not np.isfinite(a.sum()):
        known = np.isfinite(a)
        a, b = a[known], b[known]
    if not a.size:
        return 0.0
    spread = float(((a - a.mean()) ** 2).mean())
    return float(((a - b) ** 2).mean()) / max(spread, 1e-12)
