"""Weights of dense and depthwise layers against numpy's least squares."""

import numpy as np
import pytest

from onnxprune.compensation import least_squares
from onnxprune.compensation.least_squares import (
    DepthwiseMoments,
    LayerMoments,
    fit_dense,
    fit_depthwise,
    held_rows,
)

RNG = np.random.default_rng(0)


def moments_of(x: np.ndarray, y: np.ndarray, step: int = 64) -> LayerMoments:
    moments = LayerMoments()
    for start in range(0, len(x), step):
        moments.add(x[start : start + step], y[start : start + step])
    return moments


@pytest.mark.parametrize(("rows", "held"), [(0, 0), (1, 0), (2, 1), (8, 1), (64, 8), (71, 8)])
def test_an_eighth_is_held_out(rows: int, held: int):
    assert held_rows(rows) == held


def test_the_last_rows_of_every_batch_are_held_out():
    x = np.arange(160, dtype=np.float32)[:, None]
    moments = moments_of(x, x, 80)
    held = np.r_[70:80, 150:160]
    assert (moments.fit.count, moments.held.count) == (140, 20)
    assert moments.held.statistics().mean_x == pytest.approx(held.mean())
    assert moments.fit.statistics().mean_x == pytest.approx(np.delete(x, held).mean())


def test_a_dense_layer_gives_the_targets_from_the_inputs_that_stay():
    """Input 3 can be predicted from the others, so nothing is lost with it."""
    x = RNG.standard_normal((2048, 4))
    x[:, 3] = x[:, 0] - 2 * x[:, 1] + 1
    weight, bias = RNG.standard_normal((4, 2)), np.array([3.0, -1.0])
    y = x @ weight + bias
    got, got_bias = fit_dense(moments_of(x, y), weight, np.arange(3))
    assert not got[3].any()
    np.testing.assert_allclose(x @ got + got_bias, y, atol=0.01)


def test_the_old_weight_stays_where_no_fit_is_better():
    """Targets on the few rows that are fitted are noise."""
    x, weight = RNG.standard_normal((8, 6)), RNG.standard_normal((6, 1))
    y = x @ weight
    y[:7] += 50 * RNG.standard_normal((7, 1))
    got, _ = fit_dense(moments_of(x, y), weight, np.arange(6))
    np.testing.assert_array_equal(got, weight)


def test_the_ridge_is_that_with_the_least_held_out_error():
    """Of many inputs and few rows, a fit without a ridge would follow the noise."""
    x = RNG.standard_normal((128, 100))
    true = RNG.standard_normal((100, 1))
    y = x @ true + RNG.standard_normal((128, 1))
    start = true + 0.3 * RNG.standard_normal((100, 1))
    fitted = (
        np.concatenate([x[k : k + 56] for k in (0, 64)]),
        np.concatenate([y[k : k + 56] for k in (0, 64)]),
    )
    plain = np.linalg.lstsq(np.hstack([fitted[0], np.ones((112, 1))]), fitted[1], rcond=None)[0]
    got, _ = fit_dense(moments_of(x, y), start, np.arange(100))
    assert np.square(got - true).sum() < 0.5 * np.square(plain[:-1] - true).sum()


def test_depthwise_channels_are_fitted_one_by_one():
    x, y = RNG.standard_normal((500, 9, 4)), RNG.standard_normal((500, 4))
    moments = DepthwiseMoments(9, 4)
    for start in range(0, 500, 200):
        moments.add(x[start : start + 200], y[start : start + 200])
    got, bias = fit_depthwise(moments, np.zeros((9, 4)))
    for channel in range(4):
        design = np.hstack([x[:, :, channel], np.ones((500, 1))])
        expected = np.linalg.lstsq(design, y[:, channel], rcond=None)[0]
        np.testing.assert_allclose(got[:, channel], expected[:-1], atol=2e-3)
        assert bias[channel] == pytest.approx(expected[-1], abs=2e-3)


def test_ridges_are_compared_on_mixtures_where_there_are_many_outputs(
    monkeypatch: pytest.MonkeyPatch,
):
    """The choice is as good as one by all outputs, and better than the extreme ridges."""
    x, true = RNG.standard_normal((128, 100)), RNG.standard_normal((100, 300))
    y = x @ true + 3 * RNG.standard_normal((128, 300))
    moments, start = moments_of(x, y), true + 0.3 * RNG.standard_normal((100, 300))

    def missed() -> float:
        return float(np.square(fit_dense(moments, start, np.arange(100))[0] - true).sum())

    mixed = missed()
    monkeypatch.setattr(least_squares, "MIXED", 300)
    assert mixed == pytest.approx(missed(), rel=0.05)
    monkeypatch.setattr(least_squares, "RIDGES", (1e-4,))
    assert mixed < 0.7 * missed()
