"""Products of bytes: shifted factors give the same numbers, and what saturates is found out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.ir import exact_products, graph, runtime
from onnxprune.types import Pairs

RNG = np.random.default_rng(0)
DEPTH, COLUMNS = 96, 17
X = RNG.integers(0, 256, (5, DEPTH), dtype=np.uint8)
IMAGE = RNG.integers(0, 256, (1, 12, 6, 6), dtype=np.uint8)
W = RNG.integers(-128, 128, (DEPTH, COLUMNS)).astype(np.int8)
FILTERS = RNG.integers(-128, 128, (7, 12, 3, 3)).astype(np.int8)
CONSTANTS: dict[str, NDArray[Any]] = {
    "w": W,
    "filters": FILTERS,
    "one": np.array(1, np.float32),
    "xz": np.array(3, np.uint8),
    "wz": np.array(-2, np.int8),
    "wz_each": RNG.integers(-9, 9, COLUMNS).astype(np.int8),
    "scale": np.array(9000, np.float32),
    "yz": np.array(128, np.uint8),
}
MATMUL = (X.astype(np.int64) - 3) @ (W.astype(np.int64) + 2)


def quantised(sums: NDArray[Any]) -> NDArray[Any]:
    return np.clip(np.rint(sums / np.float32(9000)) + 128, 0, 255)


CASES = {
    "MatMulInteger(x, w, xz, wz)": MATMUL,
    "MatMulInteger(x, w, xz)": (X.astype(np.int64) - 3) @ W.astype(np.int64),
    "com.microsoft.MatMulIntegerToFloat(x, w, one, one, xz, wz)": MATMUL,
    "QLinearMatMul(x, one, xz, w, one, wz, scale, yz)": quantised(MATMUL),
    "com.microsoft.QGemm(x, one, xz, w, one, wz, , scale, yz)": quantised(MATMUL),
}


def model(text: str, shape: tuple[int, ...], kind: int) -> onnx.ModelProto:
    """One operator on the input x."""
    node = onnx.parser.parse_node(f"y = {text}")
    read = set(node.input)
    made = onnx.helper.make_graph(
        [node],
        "product",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(v, k) for k, v in CONSTANTS.items() if k in read],
    )
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(made, opset_imports=imports, ir_version=8)


def outputs(model: onnx.ModelProto, x: NDArray[Any], optimize: bool) -> NDArray[Any]:
    session = runtime.open_session(graph.model_bytes(model), optimize=optimize)
    return runtime.run(session, {"x": x})["y"]


def signed(model: onnx.ModelProto, pairs: Mapping[str, tuple[Pairs, ...]]) -> list[str]:
    """Operators that still multiply by a stored signed tensor."""
    stored = graph.constants(model)
    return [
        node.op_type
        for node in model.graph.node
        for factor, _ in pairs.get(graph.op_key(node), ())
        if node.input[factor.input] in stored
    ]


@pytest.mark.parametrize("optimize", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("text", CASES)
def test_a_product_is_exact(text: str, optimize: bool):
    """On any processor: the sums are those of integers of 64 bits."""
    made = exact_products.exact(model(text, X.shape, onnx.TensorProto.UINT8), ops.PAIRS)
    assert signed(made, ops.PAIRS) == []
    np.testing.assert_array_equal(outputs(made, X, optimize), CASES[text])


@pytest.mark.parametrize("text", ["QLinearConv(x, one, xz, filters, one, wz, scale, yz)",
                                  "ConvInteger(x, filters, xz, wz)"])  # fmt: skip
def test_a_convolution_is_exact(text: str):
    windows = np.lib.stride_tricks.sliding_window_view(IMAGE.astype(np.int64) - 3, (3, 3), (2, 3))
    sums = np.einsum("nchwij,ocij->nohw", windows, FILTERS.astype(np.int64) + 2)
    made = exact_products.exact(model(text, IMAGE.shape, onnx.TensorProto.UINT8), ops.PAIRS)
    expected = quantised(sums) if text.startswith("Q") else sums
    np.testing.assert_array_equal(outputs(made, IMAGE, optimize=False), expected)


def test_reals_that_an_operator_quantises_itself():
    text = "com.microsoft.DynamicQuantizeMatMul(x, w, one, wz)"
    x = X.astype(np.float32)
    x[0, 0], x[0, 1] = 0, 255  # the range of bytes, so that the scale is one
    made = exact_products.exact(model(text, X.shape, onnx.TensorProto.FLOAT), ops.PAIRS)
    assert signed(made, ops.PAIRS) == []
    expected = x.astype(np.int64) @ (W.astype(np.int64) + 2)
    np.testing.assert_allclose(outputs(made, x, optimize=False), expected, rtol=1e-6)


def test_signed_data_stays_as_it_is():
    """Products of signed bytes are exact, and some operators take no signed with unsigned ones."""
    made = model("MatMulInteger(x, w)", X.shape, onnx.TensorProto.INT8)
    before = made.SerializeToString()
    assert exact_products.exact(made, ops.PAIRS).SerializeToString() == before


def test_models_of_old_versions_take_what_shifts_add():
    """Before version 4 of the format a stored tensor had to be an input, if no operator read it."""
    product = model("MatMulInteger(x, w, xz, wz)", X.shape, onnx.TensorProto.UINT8)
    product.ir_version = 3
    exact_products.exact(product, ops.byte_products())
    assert (outputs(product, X, False) == MATMUL).all()


def test_zero_points_of_columns_are_shifted():
    text = "MatMulInteger(x, w, xz, wz_each)"
    made = exact_products.exact(model(text, X.shape, onnx.TensorProto.UINT8), ops.PAIRS)
    expected = (X.astype(np.int64) - 3) @ (W.astype(np.int64) - CONSTANTS["wz_each"])
    np.testing.assert_array_equal(outputs(made, X, optimize=False), expected)


@pytest.mark.parametrize("text", ["MatMulInteger(x, w, xz)", "MatMulInteger(x, w, xz, wz)"])
def test_what_is_added_to_an_old_model_is_read(text: str):
    """Before IR version 4 onnxruntime refuses stored tensors that no operator reads."""
    old = model(text, X.shape, onnx.TensorProto.UINT8)
    old.ir_version = 3
    for tensor in old.graph.initializer:
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        old.graph.input.append(info)
    made = exact_products.exact(old, ops.PAIRS)
    np.testing.assert_array_equal(outputs(made, X, optimize=False), CASES[text])


def test_decoded_bytes_stand_for_the_same_reals():
    decoded = ops.byte_products()
    made = model("Identity(x)", (DEPTH, COLUMNS), onnx.TensorProto.FLOAT)
    made.graph.node[0].CopyFrom(onnx.parser.parse_node("d = DequantizeLinear(w, one, wz)"))
    made.graph.node.append(onnx.parser.parse_node("y = Add(x, d)"))
    made.graph.initializer.extend(
        onnx.numpy_helper.from_array(CONSTANTS[name], name) for name in ("w", "one", "wz")
    )
    exact_products.exact(made, decoded, ops.DECODERS)
    assert signed(made, decoded) == []
    x = np.zeros((DEPTH, COLUMNS), np.float32)
    np.testing.assert_array_equal(outputs(made, x, optimize=False), W.astype(np.float32) + 2)


def test_what_saturates_is_found_by_computing(monkeypatch: pytest.MonkeyPatch):
    exact_products.saturates.cache_clear()
    found = exact_products.saturates()
    text = "MatMulInteger(x, w, xz, wz)"
    plain = outputs(model(text, X.shape, onnx.TensorProto.UINT8), X, optimize=True)
    assert found == (not np.array_equal(plain, MATMUL))
    monkeypatch.setattr(runtime, "run", lambda *_: {"y": np.zeros((1, 32), np.int32)})
    exact_products.saturates.cache_clear()
    assert exact_products.saturates()
    exact_products.saturates.cache_clear()
