"""Drift by hand: cosine, signal to noise, agreement and accuracy over several batches."""

import numpy as np
import pytest

from onnxprune.errors import InputError
from onnxprune.pipeline.fidelity import OutputPair, fidelity


def test_equal_outputs_have_no_noise():
    outputs = {"y": np.array([[1.0, 2], [4, 3]])}
    found = fidelity([OutputPair(outputs, outputs)], "the data")
    assert (found.cosine, found.sqnr_db, found.agreement) == (1, None, 1)
    assert (found.samples, found.data, found.accuracy) == (2, "the data", None)


def test_drift_is_that_of_all_batches_together():
    a, b = np.array([3.0, 0, 4]), np.array([3.0, 1, 2])
    pairs = [OutputPair({"y": a[:2]}, {"y": b[:2]}), OutputPair({"y": a[2:]}, {"y": b[2:]})]
    found = fidelity(pairs, "")
    assert found.cosine == pytest.approx(17 / np.sqrt(25 * 14))
    assert found.sqnr_db == pytest.approx(10 * np.log10(25 / 5))
    assert found.agreement is None and found.samples == 3


def test_answers_are_compared_on_the_first_output_of_scores():
    scores = np.array([[2.0, 1], [1, 2], [2, 1], [1, 2]])
    other = np.array([[2.0, 1], [2, 1], [2, 1], [1, 2]])
    labels = np.array([0, 1, 1, 1])
    pairs = [
        OutputPair({"z": np.ones(3), "y": scores[k]}, {"z": np.ones(3), "y": other[k]}, labels[k])
        for k in (slice(0, 3), slice(3, 4))
    ]
    found = fidelity(pairs, "")
    assert found.agreement == 3 / 4 and found.accuracy == (3 / 4, 2 / 4)


def test_integers_do_not_drift():
    found = fidelity([OutputPair({"n": np.arange(3)}, {"n": np.ones(3, int)})], "")
    assert found.cosine == 1 and found.sqnr_db is None and found.samples == 3


def test_outputs_of_another_shape_are_refused():
    pair = OutputPair({"y": np.ones((2, 3))}, {"y": np.ones((2, 4))})
    with pytest.raises(InputError, match=r"output 'y' has shape \[2, 3\] in the first model, and"):
        fidelity([pair], "")
