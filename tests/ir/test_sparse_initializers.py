"""Weights that are mostly zeros are stored sparse where that is smaller, and load as they were."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net, samples_of
from numpy.typing import NDArray
from onnx_text import run, stored

from onnxprune.ir import normalize
from onnxprune.ir.model import read_model
from onnxprune.ir.sparse_initializers import VERSION, stored_sparse

SMALLER = "no weight takes fewer bytes as a sparse initializer: all are stored dense"


def layer(values: NDArray[np.floating]) -> onnx.ModelProto:
    """x times a stored matrix."""
    n = Net(x=("N", values.shape[0]))
    n.kind = values.dtype.type
    return n.model(n.op("MatMul", "x", n.const(values, "w")))


def mostly_zeros(*shape: int, kept: int, kind: str = "float32") -> NDArray[np.floating]:
    values = np.zeros(shape, kind)
    at = np.random.default_rng(0).permutation(values.size)[:kept]
    values.flat[at] = np.arange(1, kept + 1)
    return values


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_a_sparse_weight_is_the_same_array_again(kind: str) -> None:
    values = mostly_zeros(20, 30, kept=60, kind=kind)
    model = layer(values)
    new, note = stored_sparse(model, {"w"})
    assert not stored(new) and stored(model) and new.ir_version >= VERSION
    (tensor,) = new.graph.sparse_initializer
    assert len(onnx.numpy_helper.to_array(tensor.values)) == 60
    assert np.array_equal(stored(normalize.prepare(new)[0])["w"], values)
    saved = int(note.split(", ")[1].split()[0])
    assert 0 <= model.ByteSize() - new.ByteSize() - saved < 10  # lengths of lengths
    x = np.random.default_rng(0).standard_normal((3, 20)).astype(kind)
    for name, value in run(model, x=x).items():
        np.testing.assert_array_equal(run(new, x=x)[name], value)


def test_positions_take_eight_bytes_each() -> None:
    """Of 36 numbers in 144 bytes 12 take as many with their positions; it has to be fewer."""
    dense, note = stored_sparse(model := layer(mostly_zeros(6, 6, kept=12)), {"w"})
    assert dense is model and note == SMALLER
    sparse, note = stored_sparse(layer(mostly_zeros(6, 6, kept=11)), {"w"})
    assert len(sparse.graph.sparse_initializer) == 1 and note.startswith("1 weights are stored")


def test_only_weights_that_are_named_change() -> None:
    model = layer(mostly_zeros(20, 30, kept=5))
    assert stored_sparse(model, {"other"}) == (model, SMALLER)


def test_external_weights_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = layer(mostly_zeros(20, 30, kept=5))
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    outside = read_model(path).proto
    assert stored_sparse(outside, {"w"}) == (outside, SMALLER)


def test_convolutions_of_old_models_become_sparse_too() -> None:
    """Weights are no longer inputs, and the version is the first with sparse initializers."""
    model = NETWORKS["weights_as_inputs"]()
    feeds = {"x": samples_of(model, np.random.default_rng(0))["x"]}
    (weight,) = (t for t in model.graph.initializer if len(t.dims) == 4)
    values = np.zeros(tuple(weight.dims), np.float32)
    values[0, 0] = 1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    new, note = stored_sparse(model, {weight.name})
    assert weight.name not in {value.name for value in new.graph.input}, note
    assert new.ir_version == VERSION
    for name, value in run(model, **feeds).items():
        np.testing.assert_array_equal(run(new, **feeds)[name], value)
