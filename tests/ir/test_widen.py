"""A model of float16 in float32: the same function, under the same names."""

import numpy as np
import onnx
from onnx_text import run, stored
from text_models import PERCEPTRON, PERCEPTRON_SHAPES, perceptron, seeded, text_model

from onnxprune.ir.widen import widened


def test_the_same_function_in_float32():
    half = PERCEPTRON.replace("float[", "float16[")
    weights = {k: seeded(*shape).astype(np.float16) for k, shape in PERCEPTRON_SHAPES.items()}
    model = text_model(half, **weights)
    before = model.SerializeToString()
    wide = widened(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(wide)
    assert {array.dtype for array in stored(wide).values()} == {np.dtype(np.float32)}
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float16)
    (narrow,), (exact,) = (list(run(one, x=x).values()) for one in (model, wide))
    assert exact.dtype == np.float32
    np.testing.assert_allclose(narrow, exact, rtol=1e-2)  # float16 has 11 bits


def test_bodies_and_casts_are_converted():
    text = """
    net (float[N, 3] x, bool c) => (float[N, 3] y) {
        h = Cast <to = 10> (x)
        r = If (c) <
            then_branch = a () => (float16[N, 3] s) { s = Mul (h, w) },
            else_branch = b () => (float16[N, 3] t) { t = Add (h, w) }
        >
        y = Cast <to = 1> (r)
    }
    """
    model = text_model(text, w=np.full(3, 0.1, np.float16))
    wide, x = widened(model), np.full((2, 3), 1000.3, np.float32)
    onnx.checker.check_model(wide)
    tenth = np.float32(np.float16(0.1))
    for chosen, expected in ((True, x * tenth), (False, x + tenth)):
        np.testing.assert_allclose(run(wide, x=x, c=np.array(chosen))["y"], expected, rtol=1e-6)


def test_a_model_of_float32_stays():
    model = perceptron()
    assert widened(model) is model
