"""An operator behind an input, and operators in place of others."""

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxprune.ir import graph, runtime
from onnxprune.ir.first_node import Change, opened_axes, replaced_operators, with_first

X = np.arange(8, dtype=np.float32).reshape(2, 4)
BRANCH = """
    <ir_version: 8, opset_import: ["": 17]>
    g (float[2,4] x, bool c) => (float[] y) {
        z = If (c) <
            then_branch = t () => (float[] a) { a = ReduceMean <keepdims=0> (x) },
            else_branch = e () => (float[] b) { b = ReduceMax <keepdims=0> (x) }
        >
        y = Neg (z)
    }
"""


def ran(model: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    session = runtime.open_session(graph.model_bytes(model))
    return next(iter(runtime.run(session, feeds).values()))


def plain(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')


def test_branches_read_what_the_operator_makes():
    stored = [np.array([1]), np.array([3]), np.array([1])]
    model = with_first(parser.parse_model(BRANCH), "x", "Slice", stored, {})
    assert ran(model, x=X, c=np.array(True)) == pytest.approx(-X[:, 1:3].mean())
    assert ran(model, x=X, c=np.array(False)) == pytest.approx(-X[:, 1:3].max())
    assert graph.interface(model) == graph.interface(parser.parse_model(BRANCH))


def test_names_that_are_taken_are_left_alone():
    model = plain("g (float[2,4] x) => (y) { x_extent = Neg(x) y = Relu(x_extent) }")
    made = with_first(model, "x", "Abs", [], {})
    names = [name for node in made.graph.node for name in node.output]
    assert len(set(names)) == 3 and made.graph.node[1].input[0] == names[0]


def test_operators_are_replaced_with_what_is_stored_for_them():
    model = plain("g (float[2,4] x) => (y) <int64[2] s = {4, 2}> { y = Reshape(x, s) }")
    change = Change("Reshape", [np.array([0, -1])], {})
    made = replaced_operators(model, {"y": change})
    assert ran(made, x=X).shape == (2, 4) and len(made.graph.initializer) == 1
    assert ran(model, x=X).shape == (4, 2)


def test_axes_are_opened():
    model = plain("g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }")
    made = opened_axes(model, {"x": (2, 4)}, "x", [1])
    assert graph.declared_sizes(made.graph.input[0]) == (2, None)
    assert ran(made, x=X[:, :3]).shape == (2, 3)
