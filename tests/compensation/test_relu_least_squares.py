"""Least squares behind a Relu: less error there than plain least squares leaves."""

import numpy as np
import pytest

from onnxprune.compensation import relu_least_squares
from onnxprune.compensation.least_squares import LayerMoments, fit_dense
from onnxprune.compensation.relu_least_squares import Answer, ReluRows, improve

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.standard_normal((10, 4)), RNG.standard_normal(4) - 0.5
KEPT = np.arange(7)
EXACT = np.where(np.arange(10)[:, None] < 7, WEIGHT, 0)


def problem(sign: np.ndarray, threshold: float):
    """Rows of inputs, and targets that seven of them give exactly where the Relu lets them through.

    Where it does not, targets lie anywhere beyond the threshold.
    """
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4096, 10)) @ (np.eye(10) + 0.3)
    target = x @ EXACT + BIAS
    beyond = sign * (target - threshold) < 0
    target = target - 5 * sign * beyond * np.abs(rng.standard_normal(target.shape))
    moments, rows = LayerMoments(), ReluRows(sign, 4)
    for start in range(0, 4096, 1024):
        part = slice(start, start + 1024)
        moments.add(x[part], target[part])
        rows.add(x[part], target[part], np.full((1024, 4), threshold))
    return x, target, moments, rows


@pytest.mark.parametrize("sign", [[1, 1, 1, 1], [-1, -1, 1, 1]])
@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_the_error_behind_the_relu_falls(sign: list[float], threshold: float):
    signs = np.array(sign, float)
    x, target, moments, rows = problem(signs, threshold)
    first = Answer(*fit_dense(moments, WEIGHT, KEPT))
    got = improve(first, rows, KEPT, moments.fit.statistics())

    def error(answer: Answer) -> float:
        result = x @ answer.weight + answer.bias
        cut = [np.maximum(signs * (value - threshold), 0) for value in (result, target)]
        return float(((cut[0] - cut[1]) ** 2).mean())

    assert error(got) < 0.5 * error(first)
    assert np.square(got.weight - EXACT).sum() < 0.7 * np.square(first.weight - EXACT).sum()
    assert not got.weight[7:].any()


def test_plain_least_squares_stays_where_nothing_is_cut_off():
    x, target, moments, _ = problem(np.ones(4), 0.0)
    rows = ReluRows(np.ones(4), 1)
    rows.add(x, target, np.full((4096, 4), -100.0))
    first = Answer(*fit_dense(moments, WEIGHT, KEPT))
    got = improve(first, rows, KEPT, moments.fit.statistics())
    for a, b in zip(got, first, strict=True):
        np.testing.assert_allclose(a, b, atol=0.1 * np.abs(b).max())


def test_an_answer_without_error_stays():
    _, _, moments, rows = problem(np.ones(4), 0.0)
    got = improve(Answer(EXACT, BIAS), rows, KEPT, moments.fit.statistics())
    np.testing.assert_allclose(got.weight, EXACT, atol=1e-3)
    np.testing.assert_allclose(got.bias, BIAS, atol=1e-3)


def test_rows_are_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch):
    """100 batches of rows of 10 inputs, 4 targets and 4 thresholds: 4 bytes each."""
    monkeypatch.setattr(relu_least_squares, "ROW_BYTES", 4 * 18 * 100 * 50)
    rows = ReluRows(np.ones(4), 100)
    x = RNG.standard_normal((1000, 10))
    rows.add(x, x[:, :4], np.zeros((1000, 4)))
    (part,) = rows.take(np.array([0, 3]))
    assert len(part.x) == pytest.approx(50, abs=1) and part.x.shape[1] == 2
    assert part.cut == 44  # of the 875 that are fitted
    np.testing.assert_allclose(part.x[:44], x[:875:20, [0, 3]], rtol=1e-6)
    assert rows.take(np.array([0])) == []
