"""Kinds of results behind operators that are not ONNX's own."""

import onnx
from onnx_text import parsed

from onnxprune.ir.result_kinds import declare_kinds, element_types


def told(model: onnx.ModelProto) -> dict[str, int]:
    return {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}


def test_kinds_behind_an_operator_of_onnxruntime() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[N,4] x) => (float[N,4] y) {
            a = com.microsoft.QuickGelu(x)
            b = Shape(a)
            y = Reshape(a, b)
        }""")
    declare_kinds(model)
    assert told(model) == {"a": onnx.TensorProto.FLOAT, "b": onnx.TensorProto.INT64}


def test_nothing_is_asked_where_all_operators_are_onnx() -> None:
    model = parsed("g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Neg(a) }")
    declare_kinds(model)
    assert told(model) == {}


def test_a_model_that_does_not_open_stays_as_it_is() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        g (float[N,4] x) => (float[N,4] y) { a = own.Unknown(x) y = Neg(a) }""")
    declare_kinds(model)
    assert told(model) == {}


def test_types_are_inferred_or_stored_in_bodies_too() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,4] x, bool c) => (y) <int64[1] k = {3}> {
            a = Shape(x)
            y = If(c) <then_branch = t () => (d) { d = Cast<to = 7>(a) },
                       else_branch = e () => (k2) { k2 = Identity(k) }>
        }""")
    found = element_types(model)
    wanted = {"x": "FLOAT", "c": "BOOL", "a": "INT64", "k": "INT64", "d": "INT64"}
    assert {n: found[n] for n in wanted} == {
        n: onnx.TensorProto.DataType.Value(kind) for n, kind in wanted.items()
    }
