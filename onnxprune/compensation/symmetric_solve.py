"""Solve systems with symmetric positive definite matrices by Cholesky's factors.

Half the work of a general solver for the factors. Numpy has no solver for triangular matrices: here
they are solved block by block, so that nearly all work is in matrix products.
"""

from __future__ import annotations

import numpy as np

from onnxprune.types import Floats

__all__ = ["solve_positive"]

#: Rows of a block.
BLOCK = 48
#: Smaller matrices are left to the general solver, which needs fewer calls.
SMALL = 192


def solve_positive(matrix: Floats, right: Floats) -> Floats:
    """(n, o) solution of `matrix` (n, n) times x = `right` (n, o).

    Raises:
        LinAlgError: the matrix is not positive definite.
    """
    if len(matrix) < SMALL:
        return np.asarray(np.linalg.solve(matrix, right))
    lower = np.linalg.cholesky(matrix)
    starts = range(0, len(lower), BLOCK)
    inverses = {k: np.linalg.inv(lower[k : k + BLOCK, k : k + BLOCK]) for k in starts}
    x = np.array(right)
    for k in starts:
        x[k : k + BLOCK] -= lower[k : k + BLOCK, :k] @ x[:k]
        x[k : k + BLOCK] = inverses[k] @ x[k : k + BLOCK]
    for k in reversed(starts):
        end = k + BLOCK
        x[k:end] -= lower[end:, k:end].T @ x[end:]
        x[k:end] = inverses[k].T @ x[k:end]
    return x
