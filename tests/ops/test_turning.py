"""What is said of operators on turned vectors holds in onnxruntime."""

from typing import Any

import numpy as np
import pytest
from onnx_text import parsed, run

from onnxprune import ops
from onnxprune.calibration.principal import principal
from onnxprune.groups.analysis import analyze

SIZE = 6
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, SIZE)).astype(np.float32)
ONES = np.ones(SIZE, np.float32)
MIXED = RNG.standard_normal((SIZE, SIZE))
#: Operators with what they read beside x.
CALLS = {
    "LayerNormalization": "LayerNormalization(x, g)",
    "RMSNormalization": "RMSNormalization(x, g)",
    "SimplifiedLayerNormalization": "SimplifiedLayerNormalization(x, g)",
    "com.microsoft:SkipLayerNormalization": "com.microsoft.SkipLayerNormalization(x, x, g)",
    "com.microsoft:SkipSimplifiedLayerNormalization":
        "com.microsoft.SkipSimplifiedLayerNormalization(x, x, g)",
    "ReduceMean": "ReduceMean<axes=[1], keepdims=0>(x)",
    "ReduceSum": "ReduceSum<keepdims=0>(x, k)",
    "GlobalAveragePool": "Transpose<perm=[0, 2, 1]>(p)",
    "Neg": "Neg(x)",
}  # fmt: skip
BEFORE = {"GlobalAveragePool": "t = Transpose<perm=[0, 2, 1]>(x) p = GlobalAveragePool(t)"}


def turned(x: np.ndarray, centred: bool) -> np.ndarray:
    """Vectors along the last axis, turned."""
    return (x @ principal(MIXED @ MIXED.T, centred).T).astype(np.float32)


def result(kind: str, x: np.ndarray) -> np.ndarray:
    opset = 23 if kind == "RMSNormalization" else 17
    shape = ",".join(map(str, x.shape))
    text = (
        f"m (float[{shape}] x, float[{SIZE}] g) => (float[] y) <int64[1] k = {{1}}>"
        f"{{ {BEFORE.get(kind, '')} y = {CALLS[kind]} }}"
    )
    model = parsed(text, opset, 10)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    feeds: dict[str, Any] = {"x": x, "g": ONES}
    return run(model, **feeds)["y"]


@pytest.mark.parametrize("kind", [*ops.NORMS, *ops.LINEAR])
def test_results_turn_with_what_is_read(kind: str):
    centred = kind in ops.NORMS and ops.NORMS[kind].centred
    plain, other = (result(kind, x) for x in (X, turned(X, centred)))
    assert np.allclose(turned(plain, centred), other, atol=1e-5)
    if centred:  # the mean makes the difference
        assert not np.allclose(turned(plain, False), result(kind, turned(X, False)), atol=1e-3)


@pytest.mark.parametrize("kind", [kind for kind, power in ops.POWERS.items() if power > 1])
def test_sums_of_squares_do_not_turn(kind: str):
    text = f"m (float[2,3,{SIZE}] x) => (float[2,3,1] y) {{ y = {kind}<axes=[2]>(x) }}"
    plain, other = (run(parsed(text), x=x)["y"] for x in (X, turned(X, False)))
    assert np.allclose(plain, other, atol=1e-4)


@pytest.mark.parametrize("kind", ops.LINEAR)
def test_what_leaves_constants(kind: str):
    same = np.full_like(X, 3)
    assert bool((result(kind, same) == 3).all()) == ops.LINEAR[kind]


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("Mul(x, x)", True),
        ("Mul(x, z)", False),
        ("Pow(x, two)", True),
        ("Pow(x, three)", False),
        ("Pow(x, z)", False),
        ("Add(x, x)", False),
    ],
)
def test_squares(call: str, found: bool):
    text = (
        "m (float[2] x, float[2] z) => (float[2] y) <float two = {2}, float three = {3}>"
        f"{{ y = {call} }}"
    )
    (node,) = (node for node in analyze(parsed(text)).nodes if node.outputs[0].name == "y")
    assert ops.squares(node) is found
