"""Solve systems with symmetric positive definite matrices by Cholesky's factors.

Half the work of a general solver for the factors. Numpy has no solver for triangular matrices: here
they are solved block by block, so that nearly all work is in matrix products.
"""

from __future__ import annotations

import numpy as np

from onnxprune.types import Floats

__all__ = ["PositiveSystem", "solve_positive"]

#: Rows of a block.
BLOCK = 48
#: Smaller matrices are left to the general solver, which needs fewer calls.
SMALL = 192


class PositiveSystem:
    """A symmetric positive definite matrix, factored once for any number of right sides."""

    def __init__(self, matrix: Floats) -> None:
        """Factor `matrix` (n, n).

        Raises:
            LinAlgError: it is not positive definite.
        """
        self._small = matrix if len(matrix) < SMALL else None
        if self._small is not None:
            return
        lower = self._lower = np.asarray(np.linalg.cholesky(matrix), np.float64)
        self._starts = range(0, len(lower), BLOCK)
        self._inverses = {
            k: np.linalg.inv(lower[k : k + BLOCK, k : k + BLOCK]) for k in self._starts
        }

    def solve(self, right: Floats) -> Floats:
        """(n, o) solution x of the matrix times x = `right` (n, o)."""
        if self._small is not None:
            return np.asarray(np.linalg.solve(self._small, right))
        lower, x = self._lower, np.array(right)
        for k in self._starts:
            x[k : k + BLOCK] -= lower[k : k + BLOCK, :k] @ x[:k]
            x[k : k + BLOCK] = self._inverses[k] @ x[k : k + BLOCK]
        for k in reversed(self._starts):
            end = k + BLOCK
            x[k:end] -= lower[end:, k:end].T @ x[end:]
            x[k:end] = self._inverses[k].T @ x[k:end]
        return x


def solve_positive(matrix: Floats, right: Floats) -> Floats:
    """(n, o) solution of `matrix` (n, n) times x = `right` (n, o).

    Raises:
        LinAlgError: the matrix is not positive definite.
    """
    return PositiveSystem(matrix).solve(right)
