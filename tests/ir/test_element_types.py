"""Element types of computed tensors."""

import onnx
from onnx_text import parsed

from onnxprune.ir.element_types import element_type, element_types

MODEL = """
    g (float16[N,4] x) => (float16[N,4] y) <int64[1] k = {3}> {
        s = Shape(x)
        w = Cast<to = 11>(x)
        v = Exp(w)
        y = Cast<to = 10>(v)
        u = Unknown(y)
    }"""


def test_types_are_inferred_and_single_where_that_fails() -> None:
    model = parsed(MODEL)
    names = {"x": "FLOAT16", "s": "INT64", "v": "DOUBLE", "u": "FLOAT"}
    expected = {name: onnx.TensorProto.DataType.Value(kind) for name, kind in names.items()}
    assert element_types(model, names) == expected
    assert {name: element_type(model, name) for name in names} == expected
