"""How often two models say the same."""

import numpy as np
import pytest

from onnxprune.calibration.agreement import agreement

SCORES = np.array([[4.0, 0, 0], [0, 4, 0]])


def test_sure_models_that_agree():
    sure = {"y": 10 * SCORES}
    assert agreement(sure, sure, 2) == pytest.approx([1, 1])
    assert agreement(sure, {"y": 10 * SCORES[::-1]}, 2) == pytest.approx([0, 0], abs=1e-6)
    assert agreement(sure, {"y": 10 * SCORES[[0, 0]]}, 2) == pytest.approx([1, 0], abs=1e-6)


def test_it_is_the_chance_of_the_same_class():
    p, q = np.array([[0.5, 0.25, 0.25]]), np.array([[0.2, 0.2, 0.6]])
    assert agreement({"y": p}, {"y": q}, 1) == pytest.approx([0.5 * 0.2 + 0.25 * 0.8])


def test_other_outputs_count_by_the_share_of_their_variance():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((8, 3, 4))
    assert agreement({"y": a}, {"y": a}, 8) == pytest.approx(np.ones(8))
    assert agreement({"y": a}, {"y": a + 0.1 * rng.standard_normal(a.shape)}, 8).min() > 0.95
    both = agreement({"y": a[:2], "z": SCORES}, {"y": a[:2], "z": 0 * SCORES}, 2)
    assert both == pytest.approx(np.full(2, (1 + 1 / 3) / 2))


def test_rows_of_a_sample_are_averaged():
    scores = 10 * SCORES[[0, 1, 0, 0]]
    changed = 10 * SCORES[[0, 0, 0, 0]]
    assert agreement({"y": scores}, {"y": changed}, 2) == pytest.approx([0.5, 1], abs=1e-6)
    assert agreement({"y": scores}, {"y": changed}, 3) == pytest.approx(np.full(3, 0.75), abs=1e-6)


def test_integers_do_not_count():
    assert agreement({"y": np.arange(3)}, {"y": np.arange(3)}, 3).tolist() == [0, 0, 0]
