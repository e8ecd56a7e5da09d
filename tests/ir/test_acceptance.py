"""Graphs that onnxruntime could not load are refused when they are read, in the file's names."""

import re
from collections.abc import Callable

import onnx
import pytest
from text_models import perceptron

from onnxprune.errors import InputError, OperatorError
from onnxprune.ir import acceptance


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "r"


def twice(model: onnx.ModelProto) -> None:
    model.graph.node.add().CopyFrom(model.graph.node[0])


def nowhere(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "lost"


def few_inputs(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[1:]


def repeats(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Flatten"
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("axis", -9))


def rank(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[1] = "b"


def later_order(model: onnx.ModelProto) -> None:
    """Unsorted, which onnxruntime runs."""
    node = model.graph.node.pop(0)
    model.graph.node.append(node)


REFUSED: list[tuple[Callable[[onnx.ModelProto], None], str]] = [
    (cycle, "the graph has a cycle: 'n0' (Gemm)"),
    (twice, "'h' is made twice: by node 'n0' (Gemm) and by node 'n0' (Gemm)"),
    (nowhere, "node 'n1' (Relu) reads 'lost', which is no input"),
    (few_inputs, "onnxruntime cannot load the model"),
    (repeats, "onnxruntime cannot load the model"),
    (rank, "onnxruntime cannot load the model"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSED)
def test_what_cannot_be_loaded_is_refused(
    damage: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = perceptron()
    acceptance.check(model)
    damage(model)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        acceptance.check(model)
    assert not re.search(r"\.(cc|h):\d|\w::\w", str(error.value))


def test_what_onnxruntime_sorts_and_renames_is_accepted() -> None:
    model = perceptron()
    later_order(model)
    for node in model.graph.node:
        node.name = "same"
    acceptance.check(model)


def test_an_operator_that_onnxruntime_lacks_can_be_looked_at() -> None:
    model = perceptron()
    model.graph.node[1].domain = "com.acme"
    model.opset_import.append(onnx.helper.make_opsetid("com.acme", 1))
    acceptance.check(model)
    with pytest.raises(OperatorError):
        acceptance.opens(model)


def test_what_the_file_says_of_its_tensors_must_be_true() -> None:
    model = perceptron()
    assert model.graph.value_info
    model.graph.value_info[0].type.tensor_type.elem_type = 7
    with pytest.raises(InputError, match="does not match expected type"):
        acceptance.check(model)
