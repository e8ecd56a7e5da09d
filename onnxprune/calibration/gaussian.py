"""Moments of Gaussian channels behind an elementwise function f.

With z ~ N(0, 1) and He_k the Hermite polynomials, f(μ + σz) = Σ_k c_k He_k(z)/√k!; two channels
with correlation ρ then have covariance Σ_{k≥1} ρᵏ c_k c'_k (Mehler). The c_k are integrals over z.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnxprune.types import Floats

__all__ = ["curved"]

#: Terms of the series.
TERMS = 12
#: Channels whose covariances are summed at once: what they take stays in the processor's cache.
ROWS = 32
_Z = np.linspace(-6, 6, 241)
_DENSITY = np.exp(-0.5 * _Z**2) / math.sqrt(2 * math.pi) * (_Z[1] - _Z[0])


def curved(
    function: Callable[[Floats], Floats], mean: Floats, cov: Floats
) -> tuple[Floats, Floats]:
    """Integrate mean (n,) and covariance (n, n) of f(x) for jointly Gaussian x.

    `function` takes and gives (n, m): m values of each channel.
    """
    std = np.sqrt(np.maximum(np.diag(cov), 1e-24))
    correlation = np.clip(cov / np.outer(std, std), -1, 1)
    values = function(mean[:, None] + std[:, None] * _Z)
    first: Floats = values @ _DENSITY
    terms = _series(values)
    total = np.empty_like(cov)
    for at in range(0, len(cov), ROWS):
        rows = slice(at, at + ROWS)
        total[rows] = _summed(terms[:, rows], terms, correlation[rows])
    centred = values - first[:, None]
    np.fill_diagonal(total, centred**2 @ _DENSITY)
    return first, total


def _series(values: Floats) -> Floats:
    """(k, n) the coefficients c_k, k from 1 on, of functions with `values` (n, m) at `_Z`."""
    before, hermite = np.zeros_like(_Z), np.ones_like(_Z)
    rows = []
    for k in range(1, TERMS + 1):
        before, hermite = hermite, (_Z * hermite - math.sqrt(k - 1) * before) / math.sqrt(k)
        rows.append(_DENSITY * hermite)
    found: Floats = np.stack(rows) @ values.T
    return found


def _summed(left: Floats, right: Floats, correlation: Floats) -> Floats:
    """Σ_k ρᵏ c_k c'_k of channels `left` (k, a) and `right` (k, b) with `correlation` (a, b)."""
    total, term = np.zeros_like(correlation), np.empty_like(correlation)
    for a, b in zip(left[::-1], right[::-1], strict=True):
        np.multiply.outer(a, b, out=term)
        total += term
        total *= correlation
    return total
