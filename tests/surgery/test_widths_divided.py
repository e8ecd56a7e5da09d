"""A mean over fewer positions is divided by the old width where a stored weight can take that."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from cuts import cut_to, masks_without
from onnx_text import stored
from text_models import text_model

from onnxprune.groups.analysis import analyze

#: Two normalisations by root mean squares share ε and γ.
TWICE = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = MatMul (x, a)
    q1 = Mul (h, h)
    m1 = ReduceMean <axes = [-1]> (q1)
    e1 = Add (m1, eps)
    r1 = Sqrt (e1)
    n1 = Div (h, r1)
    g1 = Mul (n1, gamma)
    q2 = Mul (g1, g1)
    m2 = ReduceMean <axes = [-1]> (q2)
    e2 = Add (m2, eps)
    r2 = Sqrt (e2)
    i2 = Reciprocal (r2)
    n2 = Mul (g1, i2)
    g2 = Mul (n2, gamma)
    y = MatMul (g2, c)
}
"""
SHAPES: dict[str, Any] = {
    "a": (3, 8),
    "c": (8, 2),
    "gamma": (8,),
    "eps": np.array([0.1], np.float32),
}


def without_two(text: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A model, and the same without two of eight channels, which is proved."""
    model = text_model(text, **SHAPES)
    analysis = analyze(model)
    stage = cut_to(analysis, masks_without(analysis, a=[1, 4]))
    onnx.checker.check_model(stage.model, full_check=True)
    return model, stage.model


def test_epsilon_and_gamma_take_it_and_no_operator_is_added() -> None:
    """6 of 8 channels: ε / 0.75 and γ / sqrt(0.75), once each although ε is read twice."""
    model, small = without_two(TWICE)
    assert [n.op_type for n in small.graph.node] == [n.op_type for n in model.graph.node]
    before, after = stored(model), stored(small)
    left = np.delete(before["gamma"], [1, 4])
    assert set(after) == {"a", "c", "gamma", "gamma_1", "eps_times"}
    for gamma in (after["gamma"], after["gamma_1"]):
        np.testing.assert_allclose(gamma, left / np.sqrt(0.75), rtol=1e-6)
    np.testing.assert_allclose(after["eps_times"], [0.1 / 0.75], rtol=1e-6)


#: Somebody else reads what lies on the way, nothing stored is multiplied, what lies there is an
#: output, or no factor passes through.
ELSEWHERE = {
    "a second reader": TWICE.replace("r1 = Sqrt (e1)", "k = Identity (e1)\n r1 = Sqrt (k)").replace(
        "n1 = Div (h, r1)", "j = Add (r1, e1)\n n1 = Div (h, j)"
    ),
    "no weight": TWICE.replace("g1 = Mul (n1, gamma)", "g1 = Tanh (n1)"),
    "an output": TWICE.replace("(float[N, 2] y)", "(float[N, 2] y, float[N, 1] r1)"),
    "an exponential": TWICE.replace("n1 = Div (h, r1)", "f1 = Exp (r1)\n n1 = Div (h, f1)"),
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_elsewhere_the_mean_is_multiplied(where: str) -> None:
    model, small = without_two(ELSEWHERE[where])
    added = [n for n in small.graph.node if n.name not in {o.name for o in model.graph.node}]
    assert [(n.op_type, n.output[0]) for n in added] == [("Mul", "m1")]
    np.testing.assert_allclose(stored(small)[added[0].input[1]], 0.75)
