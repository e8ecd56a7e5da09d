"""New content for stored tensors, in the types that they have."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NETWORKS
from onnx_text import stored

from onnxprune.ir import graph, tensors
from onnxprune.ir.model import read_model
from onnxprune.ir.patch import patch


def test_content_is_replaced_in_the_type_of_the_tensor() -> None:
    model = NETWORKS["half_precision"]()
    before = graph.model_bytes(model)
    new = patch(model, {"c1": np.full(16, 0.1)})
    values = stored(new)
    assert values["c1"].dtype == np.float16 and (values["c1"] == np.float16(0.1)).all()
    assert all(np.array_equal(values[n], v) for n, v in stored(model).items() if n != "c1")
    assert graph.model_bytes(model) == before
    assert [t.name for t in new.graph.initializer] == [t.name for t in model.graph.initializer]


def test_nothing_to_patch_is_the_same_model() -> None:
    model = NETWORKS["chain"]()
    assert patch(model, {}) is model


def test_constant_nodes_are_patched_too() -> None:
    model = NETWORKS["constant_nodes_as_weights"]()
    read = graph.reader(patch(model, {"c1": np.arange(16)}))
    values = read("c1")
    assert values is not None and values.dtype == np.float32
    assert values.tolist() == list(range(16))


@pytest.mark.parametrize("in_memory", [True, False])
def test_external_content_goes_to_a_scratch_file(in_memory: bool, tmp_path: Path) -> None:
    """Into the model where no folder is given; the file of the original stays as it is."""
    path, scratch = tmp_path / "m.onnx", tmp_path / "scratch"
    scratch.mkdir()
    onnx.save(NETWORKS["chain"](), path, save_as_external_data=True, location="w", size_threshold=0)
    before = (tmp_path / "w").read_bytes()
    model = read_model(path).proto
    new = patch(model, {"c1": np.arange(16)}, None if in_memory else scratch)
    (tensor,) = (t for t in new.graph.initializer if t.name == "c1")
    assert tensors.is_external(tensor) != in_memory
    assert tensors.array(tensor).tolist() == list(range(16))
    assert (tmp_path / "w").read_bytes() == before
    assert len(list(scratch.iterdir())) == (0 if in_memory else 1)
