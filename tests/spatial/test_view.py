"""Models that look at less equal the original on less of its input."""

import numpy as np
import onnx
import pytest
from networks import Net
from spatial_networks import pooled

from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime
from onnxprune.ops.extents import NewNode, crop
from onnxprune.settings import Settings
from onnxprune.spatial import view
from onnxprune.spatial.extent import Extent, cropped
from onnxprune.spatial.view import seeing_less
from onnxprune.surgery.cut import Stage, running

CROP = Extent("x", "crop", (2, 3), (32, 32), (28, 24))


def stage(model: onnx.ModelProto, extent: Extent) -> Stage:
    analysis = analyze(model)
    with running(analysis, Settings()) as original:
        return seeing_less(analysis, view.view(analysis, extent), original)


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = runtime.open_session(graph.model_bytes(model))
    return next(iter(runtime.run(session, {"x": x}).values()))


def test_a_crop_inside_equals_a_crop_before():
    n = Net(x=("N", 3, "H", "W"))
    y = n.op("GlobalAveragePool", n.relu(n.conv("x", 3, 8, strides=[2, 2])))
    free = n.model(n.gemm(n.op("Flatten", y), 8, 4))
    analysis = analyze(free, Settings(input_shapes={"x": (1, 3, 32, 32)}))
    extent = Extent("x", "crop", (2, 3), (32, 32), (28, 24), fixed=False)
    with running(analysis, Settings()) as original:
        made = seeing_less(analysis, view.view(analysis, extent), original)
    x = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    assert np.allclose(outputs(made.model, x), outputs(free, cropped(extent, x)), atol=1e-6)
    assert made.proof.passed and made.proof.reference == "original on less of its input"


def test_sound_and_spectrograms():
    made = stage(pooled(rank=1, size=64), Extent("x", "crop", (2,), (64,), (48,)))
    assert made.told.startswith("8 positions of 64 at the beginning and end of axis 2 of 'x'")
    assert stage(pooled(), Extent("x", "crop", (2,), (32,), (24,))).proof.passed


def test_the_interface_stays():
    model = pooled()
    made = stage(model, CROP)
    assert graph.interface(made.model) == graph.interface(model)
    assert made.told.startswith("2 px of 32 at the top and bottom border, 4 px of 32 at the left")
    assert all(mask.all() for mask in made.kept) and not made.plan.keep


@pytest.mark.parametrize("opset", [17, 18])
def test_resize(opset: int):
    model = pooled()
    model.opset_import[0].version = opset
    made = stage(model, Extent("x", "resize", (2, 3), (32, 32), (24, 24)))
    assert made.model.graph.node[0].op_type == "Resize" and made.proof.passed
    assert made.model.opset_import[0].version == 18


def test_operators_that_mean_something_else_later_are_left_alone():
    n = Net(x=("N", 3, 32, 32))
    y = n.op("GlobalAveragePool", n.relu(n.conv("x", 3, 8)))
    model = n.model(n.op("Softmax", n.gemm(n.op("Flatten", y), 8, 4)))
    model.opset_import[0].version = 12
    with pytest.raises(InputError, match="Resize needs operators of version 18"):
        stage(model, Extent("x", "resize", (2, 3), (32, 32), (24, 24)))
    assert stage(model, CROP).proof.passed


def test_space_that_is_kept_is_refused():
    n = Net(x=("N", 3, 32, 32))
    with pytest.raises(InputError, match="keeps space: of less input its shape would be"):
        stage(n.model(n.conv("x", 3, 2)), CROP)


def test_an_extent_of_another_input_is_refused():
    for extent in (
        Extent("z", "crop", (2,), (32,), (24,)),
        Extent("x", "crop", (5,), (32,), (24,)),
    ):
        with pytest.raises(InputError, match="the model has no such axis"):
            stage(pooled(), extent)
    with pytest.raises(
        InputError, match="axis 2 of input 'x' to have 30 positions; the model has 32"
    ):
        stage(pooled(), Extent("x", "crop", (2,), (30,), (24,)))


def test_a_wrong_model_fails_the_proof(monkeypatch: pytest.MonkeyPatch):
    def shifted(extent: Extent) -> NewNode:
        return crop([2], [4], [4])

    monkeypatch.setattr(view, "first_node_of", shifted)
    with pytest.raises(ProofError, match="looking at less of input 'x': output 'gemm"):
        stage(pooled(), CROP)


def test_channels_that_are_shuffled():
    """Sizes of space are stated behind those of the groups."""
    n = Net(x=(1, 3, 32, 32))
    y = n.relu(n.conv("x", 3, 8, strides=[2, 2]))
    y = n.op("Transpose", n.op("Reshape", y, n.const([1, 2, 4, 16, 16])), perm=[0, 2, 1, 3, 4])
    y = n.relu(n.conv(n.op("Reshape", y, n.const([1, 8, 16, 16])), 8, 8, group=2))
    model = n.model(n.gemm(n.op("Flatten", n.op("GlobalAveragePool", y)), 8, 4))
    made = stage(model, CROP)
    assert made.proof.passed
    x = np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)
    free = onnx.ModelProto.FromString(model.SerializeToString())
    for axis, size in ((2, 28), (3, 24)):
        free.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    for tensor in free.graph.initializer:
        if tensor.dims == [5] or tensor.dims == [4]:
            entries = onnx.numpy_helper.to_array(tensor).copy()
            if entries[-1] == 16:
                entries[-2:] = 14, 12
                tensor.CopyFrom(onnx.numpy_helper.from_array(entries, tensor.name))
    assert np.allclose(outputs(made.model, x), outputs(free, cropped(CROP, x)), atol=1e-6)
