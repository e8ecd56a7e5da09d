"""Divergence of outputs by hand: class scores by Kullback-Leibler, others by squared error."""

import numpy as np
import pytest

from onnxprune.calibration.divergence import (
    divergence,
    is_scores,
    log_probabilities,
    relative_error,
)

P, Q = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.25, 0.75], [0.9, 0.1]])
#: 0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 0.75); the second rows are equal.
FIRST = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)


@pytest.mark.parametrize("shift", [None, 0.0, 5.0])
def test_class_scores_and_probabilities(shift):
    """Scores are logarithms of probabilities up to a constant."""
    p, q = (P, Q) if shift is None else (np.log(P) + shift, np.log(Q) - shift)
    assert divergence({"y": p}, {"y": q}) == pytest.approx(FIRST / 2)
    assert divergence({"y": p}, {"y": p}) == 0
    counted = divergence({"y": p}, {"y": q}, np.array([3.0, 1.0]))
    assert counted == pytest.approx(3 * FIRST / 4)


def test_other_outputs_count_by_their_variance():
    a = np.array([0.0, 2.0, 4.0])  # variance 8/3
    assert relative_error(a, a + 1) == pytest.approx(3 / 8)
    assert divergence({"y": a}, {"y": a + 1}) == pytest.approx(3 / 8)
    both = divergence({"y": a, "p": P}, {"y": a + 1, "p": Q})
    assert both == pytest.approx(3 / 8 + FIRST / 2)


def test_integers_and_outputs_that_did_not_change_are_left_out():
    assert divergence({"n": np.arange(4), "y": np.arange(4.0)}, {"n": np.ones(4, int)}) == 0


def test_log_probabilities_sum_to_one():
    scores = np.random.default_rng(0).standard_normal((5, 7)) * 30
    np.testing.assert_allclose(np.exp(log_probabilities(scores)).sum(1), 1)
    np.testing.assert_allclose(log_probabilities(P), np.log(P))
    assert np.isfinite(log_probabilities(np.array([[1.0, 0.0]]))).all()


@pytest.mark.parametrize(
    ("array", "scores"),
    [
        (np.ones((3, 4)), True),
        (np.ones((3, 1)), False),
        (np.ones(4), False),
        (np.ones((3, 4, 5)), False),
        (np.ones((3, 4), int), False),
    ],
)
def test_what_counts_as_class_scores(array: np.ndarray, scores: bool):
    assert is_scores(array) == scores


def test_where_the_original_is_not_finite_nothing_is_compared():
    a = np.array([0.0, 2.0, np.inf, 4.0, np.nan])
    assert relative_error(a, a + 1) == pytest.approx(3 / 8)
    assert relative_error(np.full(3, np.nan), np.ones(3)) == 0
    scores = np.array([[0.0, 2.0, -np.inf], [4.0, np.nan, 4.0]])
    assert np.isfinite(divergence({"y": scores}, {"y": scores + 1}))
    assert not np.isfinite(divergence({"y": np.ones(3)}, {"y": np.full(3, np.nan)}))
