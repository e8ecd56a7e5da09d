"""Stored tensors that cannot be are refused before anything reads them."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from nested_networks import sparse_weights
from onnx import TensorProto, numpy_helper
from text_models import perceptron

from onnxprune.errors import InputError
from onnxprune.ir import well_formed


def first(model: onnx.ModelProto) -> TensorProto:
    """The weight `a` of the perceptron, (4, 3) in raw data."""
    return model.graph.initializer[0]


def unknown_type(model: onnx.ModelProto) -> None:
    first(model).data_type = 99


def negative(model: onnx.ModelProto) -> None:
    first(model).dims[0] = -1


def huge(model: onnx.ModelProto) -> None:
    first(model).dims[:] = [2**40, 2**40]


def of_many_axes(model: onnx.ModelProto) -> None:
    first(model).dims[:] = [1] * 100


def short(model: onnx.ModelProto) -> None:
    first(model).raw_data = first(model).raw_data[:-1]


def short_floats(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(first(model)).ravel()
    first(model).ClearField("raw_data")
    first(model).float_data.extend(values[:-1])


def of_a_function(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].ref_attr_name = "outer"


def in_a_body(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "inner")
    tensor.dims[0] = 4
    value = onnx.ValueInfoProto(name="inner")
    body = onnx.helper.make_graph([], "branch", [], [value], [tensor])
    branches = {"then_branch": body, "else_branch": body}
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["z"], **branches))


def in_an_attribute(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.ones(3, np.float32), "held")
    value.data_type = 99
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["k"], value=value))


def of_no_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 0


def of_a_future_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 2**31


def constant(model: onnx.ModelProto, **value: Any) -> None:
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["k"], **value))


def constant_of_two_values(model: onnx.ModelProto) -> None:
    constant(model, value_int=1, value_float=0.5)


def constant_of_another_type(model: onnx.ModelProto) -> None:
    constant(model, value_float=[1, 2])


def constant_of_two_outputs(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["k", "more"], value_int=1))


def empty_constant(model: onnx.ModelProto) -> None:
    constant(model)


REFUSED: list[tuple[Callable[[onnx.ModelProto], None], str]] = [
    (unknown_type, "tensor 'a' has type 99, which onnx .* does not know. Install a newer onnx"),
    (negative, "tensor 'a' has the impossible shape [-1, 3]. The file is damaged: export it"),
    (huge, "tensor 'a' has the impossible shape [1099511627776, 1099511627776]"),
    (of_many_axes, "tensor 'a' has the impossible shape"),
    (short, "tensor 'a' of shape [4, 3] needs 48 bytes but holds 47. The file is damaged"),
    (short_floats, "tensor 'a' of shape [4, 3] needs 12 entries of float_data but holds 11"),
    (of_a_function, "node 'n0' takes its attribute 'transB' from 'outer' of a function, but"),
    (in_a_body, "tensor 'inner' of shape [4] needs 16 bytes but holds 12"),
    (constant_of_two_values, "node 'k' (Constant) must hold one value and make one tensor"),
    (constant_of_another_type, "node 'k' (Constant) must hold one value and make one tensor"),
    (constant_of_two_outputs, "node 'k' (Constant) must hold one value and make one tensor"),
    (empty_constant, "node 'k' (Constant) must hold one value and make one tensor"),
    (of_no_opset, "the model imports opset 0 of domain 'ai.onnx'. Export the model again"),
    (of_a_future_opset, "the model imports opset 2147483648 of domain 'ai.onnx'"),
    (in_an_attribute, "tensor 'held' has type 99"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSED)
def test_what_cannot_be_is_refused(damage: Callable[[onnx.ModelProto], None], message: str) -> None:
    model = perceptron()
    well_formed.check(model)
    damage(model)
    with pytest.raises(InputError, match=re.escape(message).replace(r"\.\*", ".*")):
        well_formed.check(model)


def test_sparse_tensors_must_fit_into_memory() -> None:
    model = sparse_weights()
    well_formed.check(model)
    model.graph.sparse_initializer[0].dims[:] = [2**40]
    with pytest.raises(InputError, match=r"sparse tensor .* has shape \[1099511627776\], which"):
        well_formed.check(model)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int8, np.int64, np.bool_, np.float16])
def test_content_in_typed_fields_is_counted(kind: type[np.generic]) -> None:
    values = np.ones((2, 3), kind)
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    model = perceptron()
    model.graph.initializer.append(onnx.helper.make_tensor("t", number, [2, 3], values.ravel()))
    well_formed.check(model)
    model.graph.initializer[-1].dims[0] = 3
    with pytest.raises(InputError, match="tensor 't' of shape"):
        well_formed.check(model)


def test_packed_and_complex_types_and_words_are_counted() -> None:
    model = perceptron()
    words = TensorProto(name="words", data_type=TensorProto.STRING, dims=[2])
    words.string_data.extend([b"a", b"b"])
    made = [
        onnx.helper.make_tensor("four", TensorProto.INT4, [5], [1, 2, 3, 4, 5]),
        onnx.helper.make_tensor("complex", TensorProto.COMPLEX64, [2], np.array([1 + 2j, 3])),
        words,
    ]
    for tensor in made:
        model.graph.initializer.append(tensor)
        well_formed.check(model)
        model.graph.initializer[-1].dims[0] = 9
        with pytest.raises(InputError, match=f"tensor '{tensor.name}' of shape"):
            well_formed.check(model)
        del model.graph.initializer[-1]
