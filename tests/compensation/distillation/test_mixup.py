"""Sums of two samples each."""

import numpy as np
import pytest

from onnxprune.compensation.distillation.mixup import mixup


def test_all_inputs_are_mixed_alike():
    a = np.random.default_rng(1).random((6, 3, 4)).astype(np.float32)
    rng = np.random.default_rng(0)
    for _ in range(10):
        made = mixup({"a": a, "b": 2 * a}, 6, rng)
        assert made["a"].dtype == np.float32 and made["a"].shape == a.shape
        np.testing.assert_allclose(made["b"], 2 * made["a"], rtol=1e-6)
        assert (made["a"] != a).any()
        assert a.min() - 1e-6 <= made["a"].min() and made["a"].max() <= a.max() + 1e-6
        np.testing.assert_allclose(made["a"].mean(0), a.mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("feeds", "samples"),
    [
        ({"ids": np.arange(6).reshape(2, 3)}, 2),
        ({"x": np.ones((2, 3), np.float32), "ids": np.arange(2)}, 2),
        ({"x": np.arange(6, dtype=np.float32).reshape(3, 2)}, 2),
        ({"x": np.arange(2, dtype=np.float32).reshape(1, 2)}, 1),
    ],
)
def test_integers_and_what_has_no_samples_stay(feeds: dict[str, np.ndarray], samples: int):
    rng = np.random.default_rng(0)
    for _ in range(10):
        made = mixup(feeds, samples, rng)
        assert all((made[name] == feeds[name]).all() for name in feeds)
