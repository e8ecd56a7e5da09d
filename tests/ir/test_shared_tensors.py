"""Vectors that several operators share are separated, and shared again where they stayed equal."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net, samples_of
from onnx_text import run, stored

from onnxprune import ops
from onnxprune.ir import graph, runtime, shared_tensors
from onnxprune.ir.patch import patch


def separated(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    return shared_tensors.separate(model, ops.traits())


def readers(model: onnx.ModelProto, name: str) -> int:
    return sum(list(node.input).count(name) for node in model.graph.node)


def two_layers(shared: str, size: int = 8) -> onnx.ModelProto:
    """Two products; both read the stored tensor `shared`: a matrix, or a vector behind each."""
    n = Net(x=("N", size))
    kinds = {"vector": (size,), "row": (1, size), "number": (1,), "matrix": (size, size)}
    held = n.weight(*kinds[shared], name="shared")
    op = "MatMul" if shared == "matrix" else "Add"
    y = n.op(op, n.op("MatMul", "x", n.weight(size, size)), held)
    return n.model(n.op(op, n.op("MatMul", n.relu(y), n.weight(size, size)), held))


@pytest.mark.parametrize("name", ["shared_zero_bias", "stacked_bidirectional_lstm"])
def test_separated_models_compute_the_same_and_reunite_bit_for_bit(name: str) -> None:
    model = NETWORKS[name]()
    before = graph.model_bytes(model)
    new, copies = separated(model)
    assert copies and graph.model_bytes(model) == before
    feeds = samples_of(model, np.random.default_rng(0))
    for output, value in run(model, **feeds).items():
        np.testing.assert_array_equal(run(new, **feeds)[output], value)
    assert graph.model_bytes(shared_tensors.reunite(new, copies)) == before


@pytest.mark.parametrize("kind", ["vector", "row"])
def test_every_reader_of_a_vector_has_its_own(kind: str) -> None:
    new, copies = separated(two_layers(kind))
    (copy,) = copies
    assert copies[copy] == "shared" and readers(new, "shared") == readers(new, copy) == 1
    assert np.array_equal(stored(new)[copy], stored(new)["shared"])


@pytest.mark.parametrize("kind", ["matrix", "number"])
def test_matrices_and_numbers_stay_shared(kind: str) -> None:
    model = two_layers(kind)
    new, copies = separated(model)
    assert new is model and copies == {}


def test_integers_and_outputs_stay_shared() -> None:
    """Shapes are integers; what leaves the model has one name."""
    n = Net(x=("N", 8))
    shape = n.const(np.array([-1, 4]))
    integers = n.model(n.op("Reshape", n.op("Reshape", "x", shape), shape))
    output = two_layers("vector")
    output.graph.output.append(onnx.helper.make_tensor_value_info("shared", 1, [8]))
    for model in (integers, output):
        assert separated(model) == (model, {})


def test_slices_of_one_vector_tie_nothing() -> None:
    """Gates are cut from one bias: they do not meet."""
    n = Net(x=("N", 8))
    bias = n.weight(16, name="gates")
    y = "x"
    for k in range(2):
        ends = n.const(np.array([8 * k])), n.const(np.array([8 * k + 8]))
        part = n.op("Slice", bias, *ends, n.const(np.array([0])))
        y = n.op("Add", n.op("MatMul", y, n.weight(8, 8)), part)
    assert separated(n.model(y))[1] == {}


def test_a_copy_that_changed_stays_a_copy() -> None:
    new, copies = separated(NETWORKS["shared_zero_bias"]())
    changed, *others = copies
    size = len(stored(new)[changed])
    new = shared_tensors.reunite(patch(new, {changed: np.ones(size)}), copies)
    assert stored(new)[changed].tolist() == [1] * size and readers(new, changed) == 1
    assert others and not stored(new).keys() & set(others)


def test_fills_of_states_are_made_for_each_reader() -> None:
    model = NETWORKS["stacked_bidirectional_lstm"]()
    new, copies = separated(model)
    fills = [n for n in new.graph.node if n.op_type == "ConstantOfShape"]
    (first, *others) = [node.output[0] for node in fills]
    assert set(copies.values()) == {first} and set(others) <= set(copies)
    assert all(readers(new, name) == 1 for name in (first, *others))
    assert len({node.input[0] for node in fills}) == 1
    names = [node.name for node in fills]
    told = [runtime.message_of(ValueError(f"Name:'{name}'")) for name in names]
    assert len(set(names)) == len(names) > 1 and set(told) == {f"Name:'{names[0]}'"}


def test_only_one_number_everywhere_is_a_fill() -> None:
    """A row that is repeated is computed, and stays one tensor for all who read it."""
    n = Net(x=("N", 8))
    rows = n.op("Expand", n.op("Neg", n.weight(8)), n.const(np.array([4, 8])))
    y = n.op("MatMul", n.op("MatMul", "x", n.op("Transpose", rows)), rows)
    assert separated(n.model(n.op("MatMul", y, n.op("Transpose", rows))))[1] == {}
