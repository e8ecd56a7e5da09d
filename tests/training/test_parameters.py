"""What is trained of a model, what stays and why, and how numbers move."""

import numpy as np
import pytest
from lessons import classifier
from text_models import text_model

from onnxprune.groups.analysis import analyze
from onnxprune.training.parameters import (
    LayerParameter,
    Move,
    PlainParameter,
    found_parameters,
)

MIXED = """
net (float[N, 4] x) => (float[N, 4] y) {
    h = MatMul (x, a)
    n = LayerNormalization <axis = -1> (h, scale, shift)
    half = Mul (n, two)
    masked = Add (half, mask)
    y = Add (masked, table)
}
"""


def mixed() -> dict[str, str]:
    """By name of a tensor which parameter it is, or why it stays."""
    mask = np.zeros((1, 4), np.float32)
    mask[0, 1] = -1e9
    sizes = {"a": (4, 4), "scale": (4,), "shift": (4,), "table": (1, 4)}
    model = text_model(MIXED, **sizes, two=np.array(2, np.float32), mask=mask)
    found, left = found_parameters(analyze(model), {})
    return {**{name: type(p).__name__ for p in found for name in p.names}, **left}


def test_layers_and_vectors_are_trained():
    kinds = mixed()
    assert kinds["a"] == "LayerParameter"
    assert kinds["scale"] == kinds["shift"] == kinds["table"] == "PlainParameter"
    assert kinds["two"].startswith("it is a constant of the graph")
    assert kinds["mask"].startswith("it holds numbers that stand for infinity")


def test_what_is_excluded_stays():
    found, left = found_parameters(analyze(classifier()), {}, {"a", "d"})
    assert left == dict.fromkeys(("a", "d"), "it is excluded")
    assert sorted(name for p in found for name in p.names) == ["b", "c"]


def test_a_layer_without_a_bias_gets_none():
    model = text_model("net (float[N, 4] x) => (float[N, 3] y) { y = MatMul (x, a) }", a=(4, 3))
    ((parameter,), left) = found_parameters(analyze(model), {})
    assert isinstance(parameter, LayerParameter) and parameter.names == ("a",) and not left
    state = parameter.start()
    assert list(parameter.stored(state)) == ["a"]
    np.testing.assert_array_equal(parameter.stored(state)["a"], parameter.tuned.weight)


@pytest.mark.parametrize("masked", [False, True])
def test_vectors_move_against_their_gradients(masked: bool):
    start = np.array([1.0, -1.0, 1.0], np.float32)
    mask = np.array([True, False, True]) if masked else None
    parameter = PlainParameter("v", start, mask)
    gradients = {"v": np.array([3.0, 3.0, -0.1], np.float32)}
    state = parameter.stepped(parameter.start(), gradients, Move(1, 0.01))
    moved = parameter.stored(state)["v"] - start
    np.testing.assert_allclose(moved, [-0.01, 0 if masked else -0.01, 0.01], rtol=1e-4)


def test_a_vector_of_zeros_moves():
    parameter = PlainParameter("v", np.zeros(2, np.float32))
    state = parameter.stepped(parameter.start(), {"v": np.ones(2, np.float32)}, Move(1, 0.5))
    np.testing.assert_allclose(parameter.stored(state)["v"], -0.01, rtol=1e-4)
