"""How far outputs are from the original's: one number, zero when equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["divergence", "is_scores", "log_probabilities", "relative_error"]


def divergence(
    original: Mapping[str, NDArray[Any]],
    other: Mapping[str, NDArray[Any]],
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Kullback-Leibler divergence of class scores, else squared error in shares of the variance.

    Outputs that `other` lacks are those that nothing changed. `weights` (n,): how often each sample
    counts, in class scores.
    """
    total = 0.0
    for name, base in original.items():
        if name in other and np.issubdtype(base.dtype, np.floating) and base.size:
            a, b = base.astype(np.float64), other[name].astype(np.float64)
            total += _kl(a, b, weights) if is_scores(a) else relative_error(a, b)
    return total


def is_scores(array: NDArray[Any]) -> bool:
    """Whether an output is taken for scores (n, classes) or probabilities."""
    return array.ndim == 2 and array.shape[1] > 1 and np.issubdtype(array.dtype, np.floating)


def _kl(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> float:
    """Mean over samples; rows that already are probabilities are taken as such."""
    p, q = log_probabilities(a), log_probabilities(b)
    each = (np.exp(p) * (p - q)).sum(1)
    fits = weights is not None and len(weights) == len(each)
    return float(np.average(each, weights=weights if fits else None))


def log_probabilities(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of scores, or of (n, classes) rows that are probabilities, in double precision."""
    if (rows >= 0).all() and np.allclose(rows.sum(1), 1, atol=1e-3):
        logs: NDArray[np.float64] = np.log(np.maximum(rows, 1e-9))
        return logs
    shifted = rows - rows.max(1, keepdims=True)
    scaled: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return scaled


def relative_error(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The squared error of `b` in shares of the variance of `a`, in double precision."""
    a, b = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    spread = float(((a - a.mean()) ** 2).mean())
    return float(((a - b) ** 2).mean()) / max(spread, 1e-12)
