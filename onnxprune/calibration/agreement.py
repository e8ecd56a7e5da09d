"""Say how often a changed model says what the original does: 1 where it always does.

Divergence counts what the original is unsure of as much as what it is sure of, and on samples that
it was trained on it rewards staying sure (decision 32). Between models that are changed in
different ways another question decides: how likely is it that both name the same class, where each
draws one by its own probabilities? That is the mean of Σ p q.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import is_scores, log_probabilities, relative_error

__all__ = ["agreement"]


def agreement(
    original: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]], samples: int
) -> NDArray[np.float64]:
    """(samples,) how often two models say the same, mean over outputs.

    Class scores count by the chance of the same class, anything else by the share of its variance
    that the other model gives, for all samples alike.

    Args:
        original: outputs by name.
        other: those of the changed model.
        samples: how many both were run on.
    """
    each = []
    for name, array in original.items():
        if np.issubdtype(array.dtype, np.floating) and array.size:
            a, b = array.astype(np.float64), other[name].astype(np.float64)
            scores = is_scores(a) and bool(np.isfinite(a).all() and np.isfinite(b).all())
            rows = _same_class(a, b) if scores else np.array([1 - relative_error(a, b)])
            each.append(_of_samples(rows, samples))
    return np.mean(each, axis=0) if each else np.zeros(samples)


def _same_class(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) chances that both name the same class, from scores (n, classes)."""
    chances: NDArray[np.float64] = np.exp(log_probabilities(a) + log_probabilities(b)).sum(1)
    return chances


def _of_samples(rows: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
    """(samples,) means of the rows of each sample; of all rows where they are not its multiple."""
    if len(rows) % samples:
        return np.full(samples, rows.mean())
    means: NDArray[np.float64] = rows.reshape(samples, -1).mean(1)
    return means
