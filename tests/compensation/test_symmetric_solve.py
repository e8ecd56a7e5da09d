"""Systems with positive definite matrices: the answer of the general solver, and refusals."""

import numpy as np
import pytest

from onnxprune.compensation.symmetric_solve import BLOCK, SMALL, solve_positive


@pytest.mark.parametrize("n", [3, SMALL - 1, SMALL, 2 * BLOCK, 3 * BLOCK + 7])
def test_it_solves_what_the_general_solver_solves(n: int) -> None:
    rng = np.random.default_rng(n)
    half = rng.standard_normal((n, n + 5))
    matrix, right = half @ half.T / n + 1e-3 * np.eye(n), rng.standard_normal((n, 4))
    before = right.copy()
    expected = np.linalg.solve(matrix, right)
    np.testing.assert_allclose(solve_positive(matrix, right), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(right, before)


def test_ill_conditioned_matrices_leave_small_residuals() -> None:
    """What least squares with a small ridge asks of it."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((400, 40))
    matrix, right = half @ half.T + 1e-4 * np.eye(400), rng.standard_normal((400, 3))
    residual = np.abs(matrix @ solve_positive(matrix, right) - right).max()
    general = np.abs(matrix @ np.linalg.solve(matrix, right) - right).max()
    assert residual <= 10 * general + 1e-9


def test_a_matrix_that_is_not_positive_is_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        solve_positive(-np.eye(SMALL), np.ones((SMALL, 1)))
