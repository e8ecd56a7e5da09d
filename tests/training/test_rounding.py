"""Weights rounded to eight bits: which, how far, and that training finds better ones."""

import numpy as np
from lessons import batch_of, classifier, lesson_arrays, opened

from onnxprune.training.rounding import rounded, rounded_axes


def test_steps_are_those_of_eight_bits():
    weight = np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32)
    weight[0] *= 10
    weight[1, :5] = 0
    found = rounded({"w": weight, "b": weight[0]}, {"w": None})
    assert found["b"] is not None and (found["b"] == weight[0]).all()
    step = np.abs(weight).max() / 127
    assert np.abs(found["w"] - weight).max() <= step / 2 * 1.001
    assert len(np.unique(np.rint(found["w"] / step))) <= 255
    assert (found["w"][1, :5] == 0).all() and found["w"].dtype == np.float32
    by_channel = rounded({"w": weight}, {"w": 0})["w"]
    assert np.abs(by_channel - weight)[1:].max() < np.abs(found["w"] - weight)[1:].max() / 3
    assert (rounded({"w": 0 * weight}, {"w": 0})["w"] == 0).all()


def test_layers_are_rounded_and_biases_are_not():
    found = opened(classifier(), batch_of(lesson_arrays(8)))
    assert rounded_axes(found.parameters, None) == {}
    assert rounded_axes(found.parameters, "tensor") == {"a": None, "c": None}
    assert rounded_axes(found.parameters, "channel") == {"a": 0, "c": 0}


def test_what_is_judged_is_what_quantisation_will_give():
    batch = batch_of(lesson_arrays(32))
    exact, eight = (opened(classifier(), batch, qat=grain) for grain in (None, "tensor"))
    a, b = (one.judged(batch, {}).given["p"] for one in (exact, eight))
    assert 1e-5 < np.abs(a - b).max() < 0.1
    fed = rounded(exact.fed, {"a": None, "c": None})
    np.testing.assert_array_equal(exact.judged(batch, fed).given["p"], b)
    labels = exact.labelled(batch)
    slope = exact.gradients(batch.feeds, labels, fed)["d"]
    np.testing.assert_array_equal(eight.gradients(batch.feeds, labels, {})["d"], slope)
