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
    total = np.zeros_like(cov)
    before, hermite, power = np.zeros_like(_Z), np.ones_like(_Z), np.ones_like(cov)
    for k in range(1, TERMS + 1):
        before, hermite = hermite, (_Z * hermite - math.sqrt(k - 1) * before) / math.sqrt(k)
        term = values @ (_DENSITY * hermite)
        power *= correlation
        total += power * np.outer(term, term)
    centred = values - first[:, None]
    np.fill_diagonal(total, centred**2 @ _DENSITY)
    return first, total
