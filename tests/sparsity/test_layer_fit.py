"""One layer's mask and weights from its moments."""

import numpy as np
import pytest
from present import present

from onnxprune.compensation.least_squares import LayerMoments
from onnxprune.sparsity.layer_fit import Wanted, fitted
from onnxprune.sparsity.patterns import NofM


@pytest.fixture(scope="module")
def layer():
    """Inputs that depend on each other, a weight, and what it gives."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((600, 16)) @ (np.eye(16) + 0.5 * rng.standard_normal((16, 16)))
    weight = rng.standard_normal((16, 8))
    moments = LayerMoments()
    moments.add(rows, rows @ weight + 0.5)
    return moments, weight, rows


def error(layer, made) -> float:
    _, weight, rows = layer
    return float(((rows @ weight + 0.5 - rows @ made.weight - made.bias) ** 2).mean())


def test_a_dense_layer_stays_where_it_is_right(layer):
    made = fitted(layer[0], layer[1], None, 1)
    assert made.mask is None and error(layer, made) < 1e-3


def test_so_many_go_and_the_others_make_up_for_them(layer):
    moments, weight, _ = layer
    made = fitted(moments, weight, Wanted(64), 1)
    assert made.mask is not None
    assert (~made.mask).sum() == 64 and not made.weight[~made.mask].any()
    plain = np.where(made.mask, weight, 0)
    assert error(layer, made) < error(layer, made._replace(weight=plain))


def test_a_pattern_holds_along_the_channels_of_a_tap(layer):
    moments, weight, _ = layer
    made = fitted(moments, weight, Wanted(64, NofM(2, 4)), 2)
    assert (present(made.mask).reshape(2, 2, 4, 8).sum(2) == 2).all()


def test_a_mask_that_is_given_is_kept(layer):
    moments, weight, _ = layer
    mask = np.random.default_rng(1).random(weight.shape) < 0.5
    made = fitted(moments, weight, Wanted(int((~mask).sum()), mask=mask), 1)
    np.testing.assert_array_equal(made.weight != 0, mask)
