"""Editing a model: what is asked for changes, what only that needed goes, all else survives."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net
from numpy.typing import NDArray
from onnx_text import parsed, run, stored

from onnxprune import ops
from onnxprune.ir import edit, graph, shape_inference
from onnxprune.ir.edit import NodeEdit
from onnxprune.types import Edit, Node


def described(model: onnx.ModelProto) -> Mapping[str, Node]:
    """The nodes by their first outputs."""
    return {node.outputs[0].name: node for node in shape_inference.describe(model, ops.traits())}


def edited(model: onnx.ModelProto, edits: Mapping[str, Edit]) -> onnx.ModelProto:
    """The model with nodes, by their first outputs, edited; the given one must stay as it is."""
    nodes, before = described(model), graph.model_bytes(model)
    new = edit.rebuild(model, {}, [NodeEdit(nodes[name], e) for name, e in edits.items()], {})
    assert graph.model_bytes(model) == before
    return new


#: Both reshapes read one stored shape.
SHARED = """
    g (float[2,6] x) => (float[3,4] y, float[3,4] z) <int64[2] shape = {3, 4}> {
        y = Reshape(x, shape)
        n = Neg(x)
        z = Reshape(n, shape)
    }"""
#: The first size of the result is that of the input, whatever it is.
COMPUTED = """
    g (float[N,6] x) => (float[a,b,c] y) <int64[2] rest = {2, 3}, int64 zero = {0}> {
        size = Shape(x)
        rows = Gather(size, zero)
        zeros = Constant<value = int64[1] {0}>()
        first = Unsqueeze(rows, zeros)
        shape = Concat<axis = 0>(first, rest)
        y = Reshape(x, shape)
    }"""


def test_nothing_to_change_is_an_equal_model() -> None:
    for name in ("chain", "branches_in_branches", "weights_as_inputs", "sparse_weights"):
        model = NETWORKS[name]()
        new = edit.rebuild(model, {}, (), {})
        assert graph.model_bytes(new) == graph.model_bytes(model) and new is not model


def test_new_content_keeps_name_type_and_notes_of_a_tensor() -> None:
    model = NETWORKS["chain"]()
    model.graph.initializer[0].doc_string = "kept"
    new = edit.rebuild(model, {"c0": lambda name: stored(model)[name][:5]}, (), {"x": {0: 7}})
    tensor = new.graph.initializer[0]
    assert (tensor.name, tensor.doc_string, list(tensor.dims)) == ("c0", "kept", [5, 3, 3, 3])
    assert np.array_equal(stored(new)["c0"], stored(model)["c0"][:5])
    assert new.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 7


def test_a_constant_that_others_read_is_copied_before_it_changes() -> None:
    new = edited(parsed(SHARED), {"y": Edit(inputs={1: (4, 3)})})
    assert {name: v.tolist() for name, v in stored(new).items()} == {
        "shape": [3, 4],
        "shape_pruned": [4, 3],
    }
    found = run(new, x=np.ones((2, 6), np.float32))
    assert found["y"].shape == (4, 3) and found["z"].shape == (3, 4)
    both = edited(parsed(SHARED), {n: Edit(inputs={1: (4, 3)}) for n in ("y", "z")})
    assert "shape" not in stored(both)  # nothing reads it any more


def test_an_entry_that_is_computed_stays_computed() -> None:
    new = edited(parsed(COMPUTED), {"y": Edit(inputs={1: (None, 1, 6)})})
    for rows in (1, 4):
        x = np.arange(6 * rows, dtype=np.float32).reshape(rows, 6)
        assert np.array_equal(run(new, x=x)["y"], x.reshape(rows, 1, 6))


@pytest.mark.parametrize("entries", [(8, 5), (None, 5)])
def test_a_computed_shape_reports_what_it_must(entries: tuple[int | None, ...]) -> None:
    """All of it known: the operator goes."""
    model = parsed("g (float[N,6] x) => (int64[2] y) { s = Shape(x) y = Identity(s) }")
    new = edited(model, {"s": Edit(outputs={0: entries})})
    found = run(new, x=np.ones((3, 6), np.float32))["y"]
    assert found.tolist() == [entries[0] or 3, 5]
    assert any(node.op_type == "Shape" for node in new.graph.node) == (None in entries)


def test_what_only_an_edited_node_read_goes() -> None:
    """A tensor that never was read stays: it may mean something to somebody."""
    model = parsed(COMPUTED)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2), "unread"))
    new = edited(model, {"y": Edit(inputs={1: (2, 3, 2)}, attrs={"allowzero": 1})})
    assert [node.op_type for node in new.graph.node] == ["Reshape"]
    assert graph.attributes(new.graph.node[0]) == {"allowzero": 1}
    assert set(stored(new)) == {"shape_pruned", "unread"}


def test_before_ir_version_4_every_constant_is_an_input() -> None:
    """Those that are keep their shapes up to date."""
    model = NETWORKS["weights_as_inputs"]()
    for new in (
        edit.rebuild(model, {"c0": lambda name: stored(model)[name][:5]}, (), {}),
        edit.store(model, {"relu1_0": np.zeros((2, 8, 8, 8), np.float32)}),
    ):
        declared = {
            i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in new.graph.input
        }
        declared.pop("x")
        assert declared == {name: list(array.shape) for name, array in stored(new).items()}


def test_a_stored_result_makes_its_operators_needless() -> None:
    n = Net(x=("N", 6))
    w = n.op("Mul", n.weight(6, 4), n.weight(6, 4))
    model = n.model(n.op("MatMul", "x", w))
    new = edit.store(model, {w: np.ones((6, 4), np.float32)})
    assert [node.op_type for node in new.graph.node] == ["MatMul"]
    assert list(stored(new)) == [w] and [i.name for i in new.graph.value_info] == []


def test_kept_rows_of_each_axis() -> None:
    values = np.arange(12).reshape(3, 4)
    keep = {1: np.array([0, 3]), 0: np.array([2])}
    assert edit.kept_rows(values, keep).tolist() == [[8, 11]]


def beyond(positions: Sequence[int], repeated: bool) -> NDArray[np.int64]:
    return edit.kept_rows(np.arange(1, 4), {0: np.array(positions)}, repeated)


def test_rows_beyond_the_size_are_zeros_or_the_last_ones_again() -> None:
    assert beyond([0, 2, 3, 4], repeated=False).tolist() == [1, 3, 0, 0]
    assert beyond([0, 2, 3, 4], repeated=True).tolist() == [1, 3, 3, 3]


#: A weight that two operators read, one that is held by an operator, one that is computed.
WEIGHTS = """
    g (double[N,2] x) => (double[N,2] y, double[N,2] z) <double[2] w = {2, 4}> {
        h = Constant<value = double[2] {1, 2}>()
        c = Neg(w)
        a = Mul(x, w)
        b = Mul(a, h)
        y = Mul(b, c)
        z = Mul(x, w)
    }"""


def test_numbers_multiply_inputs_where_they_are_stored() -> None:
    """Else an operator does, of their type, and who else reads them sees no difference."""
    edits = {name: Edit(times={1: 0.5}) for name in ("a", "b", "y")}
    model = parsed(WEIGHTS)
    new = edited(model, edits)
    added = [node.op_type for node in new.graph.node if node.op_type == "Mul"]
    assert len(added) == 5 and {"w", "w_times"} <= stored(new).keys()
    x = np.ones((1, 2))
    before, after = run(model, x=x), run(new, x=x)
    assert np.array_equal(after["y"], before["y"] / 8) and np.array_equal(after["z"], before["z"])


def test_a_result_that_is_multiplied_keeps_its_name() -> None:
    model = parsed(WEIGHTS)
    new = edited(model, {"b": Edit(results_times={0: 0.25}), "z": Edit(results_times={0: 2.0})})
    onnx.checker.check_model(new, full_check=True)
    x = np.ones((1, 2))
    before, after = run(model, x=x), run(new, x=x)
    assert np.array_equal(after["y"], before["y"] / 4)
    assert np.array_equal(after["z"], before["z"] * 2)
