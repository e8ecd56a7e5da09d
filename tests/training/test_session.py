"""A model opened for training: what it gives, what it should, and the gradients."""

import numpy as np
import pytest
from lessons import batch_of, classifier, lesson_arrays, opened
from onnx_text import run
from text_models import text_model

from onnxprune import InputError

ARRAYS = lesson_arrays(32)
BATCH = batch_of(ARRAYS)


def test_what_a_batch_gives_and_should():
    found = opened(classifier(0.5), BATCH, classifier())
    judged = found.judged(BATCH, {})
    x = ARRAYS["x"]
    np.testing.assert_allclose(judged.given["p"], run(classifier(0.5), x=x)["p"], atol=1e-6)
    np.testing.assert_allclose(judged.teacher["p"], run(classifier(), x=x)["p"], atol=1e-6)
    np.testing.assert_array_equal(judged.labels["p"].argmax(1), ARRAYS["labels"])
    assert found.objectives[0].tensor == "s" and not found.left
    assert opened(classifier(0.5), BATCH, classifier(), loss={"ce": 1.0}).teacher is None


def test_no_gradient_where_nothing_is_missing():
    """A student that gives what the teacher gives has nothing to learn."""
    found = opened(classifier(), batch_of({"x": ARRAYS["x"]}), classifier())
    gradients = found.gradients(BATCH.feeds, {}, {})
    assert sorted(gradients) == ["a", "b", "c", "d"]
    assert max(np.abs(g).max() for g in gradients.values()) < 1e-6
    other = opened(classifier(0.5), batch_of({"x": ARRAYS["x"]}), classifier())
    assert max(np.abs(g).max() for g in other.gradients(BATCH.feeds, {}, {}).values()) > 1e-2


def test_tensors_inside_are_compared():
    loss = {"kl": 1.0, "inside": 2.0}
    found = opened(classifier(0.5), BATCH, classifier(), loss=loss)
    assert found.inside == ["r"]
    plain = opened(classifier(0.5), BATCH, classifier(), loss={"kl": 1.0})
    a, b = (one.gradients(BATCH.feeds, {}, {}) for one in (found, plain))
    assert np.abs(a["a"] - b["a"]).max() > 1e-2
    np.testing.assert_allclose(a["c"], b["c"], atol=1e-6)


def test_new_weights_count():
    found = opened(classifier(0.5), BATCH)
    weights = {"d": np.array([50, 0, 0], np.float32)}
    assert (found.judged(BATCH, weights).given["p"].argmax(1) == 0).all()


def test_models_without_gradients_or_weights():
    blocked = text_model("net (float[N, 4] x) => (float[N, 4] p) { r = Mul (x, a) p = Round (r) }",
                         a=(4,))  # fmt: skip
    batch = batch_of({"x": ARRAYS["x"], "labels": np.zeros((32, 4), np.float32)})
    with pytest.raises(InputError, match="no gradient reaches a weight of this model"):
        opened(blocked, batch)
    empty = text_model("net (float[N, 4] x) => (float[N, 4] p) { p = Relu (x) }")
    with pytest.raises(InputError, match="holds no weight of floating point"):
        opened(empty, batch)
