"""Principal directions are orthogonal, keep the mean where asked, and come in order."""

import numpy as np
import pytest

from onnxprune.calibration.principal import principal


def moments(size: int, rank: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((size, rank))
    return mixed @ mixed.T


@pytest.mark.parametrize("centred", [False, True])
def test_the_matrix_is_orthogonal(centred: bool):
    matrix = principal(moments(12, 5), centred).astype(np.float64)
    assert np.allclose(matrix @ matrix.T, np.eye(12), atol=1e-6)


def test_without_a_mean_nothing_is_left_behind_the_rank():
    total = moments(12, 5)
    matrix = principal(total, False).astype(np.float64)
    left = np.diag(matrix @ total @ matrix.T)
    assert (np.diff(left) < 1e-4).all() and np.allclose(left[5:], 0, atol=1e-4)


def test_a_mean_stays_and_the_last_positions_hold_nothing():
    total = moments(24, 5)
    centre = np.eye(24) - 1 / 24
    matrix = principal(total, True).astype(np.float64)
    assert np.allclose(matrix.sum(1), 1, atol=1e-5)
    left = np.diag(matrix @ centre @ total @ centre @ matrix.T)
    assert np.allclose(left[6:], 0, atol=1e-4) and (left[1:6] > 0.1).all()


def test_a_single_channel():
    assert principal(np.ones((1, 1)), True).tolist() == [[1]]
