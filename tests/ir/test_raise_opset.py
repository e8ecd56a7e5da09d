"""Models are written for later operators only where these take what the model says."""

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxprune.ir import graph, runtime
from onnxprune.ir.raise_opset import raised

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def ran(model: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    session = runtime.open_session(graph.model_bytes(model))
    return next(iter(runtime.run(session, feeds).values()))


def written(body: str, opset: int = 17, stored: str = "") -> onnx.ModelProto:
    text = f"g (float[2,4] x) => (float[] y) {stored} {{ {body} }}"
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')


@pytest.mark.parametrize(
    "model",
    [
        written("y = Pad (x, p)", stored="<int64[4] p = {0, 1, 0, 1}>"),
        written("y = ReduceMean <axes = [1], keepdims = 0> (x)"),
        written("y = ReduceMean (x)"),
        written("z = Unsqueeze <axes = [1]> (x) y = Squeeze <axes = [1]> (z)", 11),
        written("y = Softmax <axis = 1> (x)", 13),
    ],
)
def test_the_same_is_computed(model: onnx.ModelProto):
    before = model.SerializeToString()
    higher = raised(model, 18)
    assert higher is not None and higher.opset_import[0].version == 18
    assert np.array_equal(ran(higher, x=X), ran(model, x=X))
    assert model.SerializeToString() == before and raised(higher, 17) is higher


def test_in_branches_too():
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2,4] x, bool c) => (float[] y) {
            y = If (c) <
                then_branch = t () => (float[] a) { a = ReduceMax <axes=[0, 1], keepdims=0> (x) },
                else_branch = e () => (float[] b) { b = ReduceMin <axes=[0, 1], keepdims=0> (x) }
            >
        }
    """)
    higher = raised(model, 18)
    assert higher is not None and ran(higher, x=X, c=np.array(True)) == 7


@pytest.mark.parametrize(
    "model",
    [
        written("y = Softmax (x)", 11),  # of another axis from version 13 on
        written("y = Clip <min = 0.0> (x)", 10),
        written("y = Upsample <scales = [1.0, 2.0]> (x)", 7),
    ],
)
def test_what_means_something_else_is_refused(model: onnx.ModelProto):
    assert raised(model, 18) is None
