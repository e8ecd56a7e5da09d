"""Operators behind a model: what it computed before, and what they add."""

import numpy as np
from onnx_text import run
from text_models import perceptron

from onnxprune.ir.appended import NewInput, appended, builder_for


def test_a_further_input_and_output():
    model = perceptron()
    builder = builder_for(model, "mine")
    name = builder.emit("Sub", "y", "target")
    scaled = builder.emit("Mul", name, builder.constant(2.0))
    made = appended(model, builder, {"target": NewInput(np.dtype(np.float32), 2)}, scaled)
    x, target = np.ones((5, 3), np.float32), np.full((5, 2), 3, np.float32)
    found, before = run(made, x=x, target=target), run(model, x=x)
    np.testing.assert_array_equal(found["y"], before["y"])
    np.testing.assert_array_equal(found[scaled], 2 * (before["y"] - target))
    assert scaled.startswith("mine/") and len(model.graph.node) == 3
