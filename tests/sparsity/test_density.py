"""How sparse weights are, the patterns they hold, and how small they pack."""

import zlib

import numpy as np
import pytest
from networks import Net

from onnxprune.groups.analysis import analyze
from onnxprune.sparsity.density import densities, nonzero, overall, packed_sizes
from onnxprune.sparsity.weights import weights_of


def rows_of(weight: np.ndarray):
    """The row of a convolution with that weight."""
    n = Net(x=(1, weight.shape[1], 8, 8))
    y = n.op("Conv", "x", n.const(weight, "w"))
    analysis = analyze(n.model(y))
    weights = weights_of(analysis.nodes, analysis.stored)
    return densities(weights, analysis.read, lambda name: None)


def two_of_four(outputs: int, channels: int) -> np.ndarray:
    weight = np.random.default_rng(0).standard_normal((outputs, channels, 1, 1)).astype(np.float32)
    weight[:, 1::4] = weight[:, 3::4] = 0
    return weight


def test_patterns_are_found():
    (row,) = rows_of(two_of_four(8, 16))
    assert row.density == 0.5 and row.nonzeros == 64
    assert row.patterns == ("2:4", "4:8") and row.tensorrt == ""
    assert row.unlikely == "16 to 8 channels, below 256, are rarely chosen"
    (dense,) = rows_of(np.ones((8, 16, 1, 1), np.float32))
    assert dense.patterns == ()
    assert dense.tensorrt == "32 of 32 groups of four hold more than two numbers"


def test_enough_zeros_in_the_wrong_places_are_no_pattern():
    weight = np.ones((8, 16, 1, 1), np.float32)
    weight[:, 8:] = 0
    (row,) = rows_of(weight)
    assert row.density == 0.5 and row.patterns == ()


def test_what_is_zero():
    values = np.array([0.0, -0.0, 1.0])
    assert nonzero(values, None).tolist() == [False, False, True]
    assert nonzero(np.array([3, 5], np.uint8), np.array(5)).tolist() == [True, False]


def test_all_weights_together():
    rows = [*rows_of(two_of_four(8, 16)), *rows_of(np.ones((4, 16, 1, 1), np.float32))]
    assert overall(rows) == {"numbers": 192, "density": pytest.approx((64 + 64) / 192)}


def test_sizes_after_compression():
    content = bytes(1000) + np.random.default_rng(0).bytes(1000)
    sizes = packed_sizes(lambda: [content[:700], content[700:]], len(content))
    assert sizes.file == 2000 and not sizes.estimated
    squeezer = zlib.compressobj(6)
    assert sizes.zip == len(squeezer.compress(content) + squeezer.flush())
