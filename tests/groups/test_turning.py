"""Values of turned streams: γ·z + β."""

import numpy as np

from onnxprune.groups.turning import Value, same_numbers, scaled


def test_scaling_goes_into_gamma_and_beta():
    by = np.array([2.0, 4.0])
    once = scaled(Value(), by, "*")
    assert once.beta is None and np.array_equal(once.gamma, by)  # type: ignore[arg-type]
    back = scaled(Value(once.gamma, np.array([1.0, 2.0])), by, "/")
    assert np.array_equal(back.gamma, [1, 1]) and np.array_equal(back.beta, [0.5, 0.5])  # type: ignore[arg-type]


def test_only_z_itself_is_plain():
    assert Value().plain
    assert not Value(squared=True).plain and not Value(gamma=np.ones(2)).plain


def test_vectors_are_compared_by_what_they_hold():
    assert same_numbers(None, None) and same_numbers(np.ones(2), np.ones(2))
    assert not same_numbers(None, np.ones(2)) and not same_numbers(np.zeros(2), np.ones(2))
