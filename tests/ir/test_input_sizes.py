"""Sizes of inputs where none are stated: usual ones are tried until the model runs."""

import numpy as np
import onnx
import pytest
from onnx_text import parsed

from onnxprune.errors import InputError
from onnxprune.ir import graph, segmented_run
from onnxprune.ir.input_sizes import FoundShapes, running_shapes, shapes_of_samples


def line_reader(length: int, declared: str = "N,L") -> onnx.ModelProto:
    """Takes one length, which the model does not declare."""
    model = parsed(f"g (float[{declared}] x) => (float[N,2] y) {{ y = MatMul(x, w) }}")
    weight = np.ones((length, 2), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return model


def found(model: onnx.ModelProto) -> FoundShapes | None:
    return running_shapes(model, lambda name: 2, 0)


@pytest.mark.parametrize(
    ("length", "shapes"), [(32, None), (320, {"x": (1, 320)}), (16000, {"x": (1, 16000)})]
)
def test_sizes_are_tried_until_the_model_runs(length: int, shapes: object) -> None:
    assert found(line_reader(length)) == shapes


def test_a_model_with_known_sizes_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one of which only the batch varies, or whose weights do not fit into memory."""
    monkeypatch.setattr(segmented_run, "Runner", None)
    assert found(line_reader(320, "N,320")) is None and found(line_reader(320, "4,320")) is None
    monkeypatch.setattr(graph, "LARGE", 64)
    assert found(line_reader(320)) is None


def test_where_no_size_is_right_the_message_says_what_to_state() -> None:
    with pytest.raises(InputError, match=r"runs on none of the input sizes .*32, 48") as e:
        found(line_reader(33))
    text = str(e.value)
    assert "x [1, 32]" in text and "--input-shape" in text and "--calib" in text
    assert "w [" not in text, "weights are no inputs of the user's"


def test_a_state_is_tried_with_a_batch_of_one() -> None:
    """Its first axis is fixed, and the axis of its batch has no name."""
    model = parsed("""
        g (float[N,L] x, float[2,M,3] h) => (float[N,2] y, float[4,1,3] z) {
            y = MatMul(x, w)
            z = Concat<axis = 0>(h, other)
        }""")
    for name, shape in {"w": (640, 2), "other": (2, 1, 3)}.items():
        tensor = onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        model.graph.initializer.append(tensor)
    assert found(model) == {"x": (1, 640), "h": (2, 1, 3)}


def test_a_series_has_no_batch() -> None:
    model = parsed("g (float[L] x) => (float y) { y = MatMul(x, w) }")
    tensor = onnx.numpy_helper.from_array(np.ones(16000, np.float32), "w")
    model.graph.initializer.append(tensor)
    assert found(model) == {"x": (16000,)}


def test_shapes_of_samples_are_those_of_one() -> None:
    feeds = {"x": np.ones((7, 3, 48, 320), np.float32), "s": np.array(2)}
    shapes = shapes_of_samples(feeds, whole=False)
    assert shapes == {"x": (1, 3, 48, 320), "s": ()}
    assert shapes.feeds is not None and shapes.feeds["x"].shape == (2, 3, 48, 320)
    assert shapes_of_samples(feeds, whole=True)["x"] == (7, 3, 48, 320)


def test_sizes_that_nothing_could_hold_are_left_out() -> None:
    """Images of 16,000 by 16,000 are not tried, and not refused either."""
    model = parsed("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    assert found(model) is None
