"""Inputs for a model: seeded ones that fit, the user's data in batches; data that do not fit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx_text import parsed, run

from onnxprune import ops
from onnxprune.calibration.samples import calibration
from onnxprune.errors import InputError
from onnxprune.ir import graph, inputs
from onnxprune.ir.inputs import Data
from onnxprune.ir.shape_inference import describe

#: A table of 5 rows is looked up with integers, a flag decides, floats are added.
LOOKUP = """
    g (int64[N,4] ids, bool[N] mask, float16[N] x) => (int64[N,4,1] y, bool[N] m, float16[N] z)
    <int64[5] table = {10, 11, 12, 13, 14}, int64[1] last = {-1}> {
        flat = Reshape(ids, last)
        same = Cast<to = 7>(flat)
        found = Gather(table, same)
        shape = Shape(ids)
        rows = Reshape(found, shape)
        one = Constant<value = int64[1] {2}>()
        y = Unsqueeze(rows, one)
        m = Not(mask)
        z = Neg(x)
    }"""
PLAIN = "g (float[N,3] x, float[N] w) => (float[N,3] y, float[N] z) { y = Neg(x) z = Neg(w) }"
BY_FOUR = "g (float[4,3] x) => (float[4,3] y) { y = Neg(x) }"


def seeded(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], seed: int
) -> inputs.Feeds:
    bounds = ops.index_bounds(describe(model, ops.traits()))
    return inputs.seeded(model, bounds, shapes, seed)


def test_seeded_inputs_fit_what_reads_them() -> None:
    """Integers reach every row of the table and no further: onnxruntime would refuse them."""
    model = parsed(LOOKUP)
    shapes = {"ids": (50, 4), "mask": (50,), "x": (50,)}
    feeds = seeded(model, shapes, 3)
    assert {name: (str(a.dtype), a.shape) for name, a in feeds.items()} == {
        "ids": ("int64", (50, 4)),
        "mask": ("bool", (50,)),
        "x": ("float16", (50,)),
    }
    assert np.unique(feeds["ids"]).tolist() == [0, 1, 2, 3, 4]
    assert 0 < feeds["mask"].sum() < 50
    assert run(model, **feeds)["y"].max() == 14
    again, other = seeded(model, shapes, 3), seeded(model, shapes, 4)
    assert all(np.array_equal(again[name], array) for name, array in feeds.items())
    assert not np.array_equal(other["x"], feeds["x"])


def test_only_axes_that_may_vary_take_another_batch() -> None:
    model = parsed("g (float[N,2] x, float[3] w) => (float[N,2] y) { y = Neg(x) }")
    x, w = np.arange(4, dtype=np.float32).reshape(2, 2), np.ones(3, np.float32)
    found = inputs.batched(model, {"x": x, "w": w}, 5)
    assert found["x"].tolist() == [[0, 1], [2, 3], [0, 1], [2, 3], [0, 1]] and found["w"] is w


def test_data_come_from_a_file_or_a_mapping(tmp_path: Path) -> None:
    arrays = {"x": np.ones((5, 3), np.float32), "w": np.zeros(5, np.float32)}
    labels = np.arange(5, dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x=arrays["x"], w=arrays["w"], labels=labels)
    mapping: dict[str, NDArray[Any]] = {**arrays, "labels": labels}
    sources: tuple[Path | dict[str, NDArray[Any]], ...] = (tmp_path / "data.npz", mapping)
    for source in sources:
        data = inputs.load_data(source, parsed(PLAIN))
        assert data.labels is not None and data.labels.dtype == np.int64 and len(data) == 5
        assert data.labels.tolist() == labels.tolist()
        assert {name: array.tolist() for name, array in data.inputs.items()} == {
            name: array.tolist() for name, array in arrays.items()
        }


X, W = np.ones((5, 3), np.float32), np.zeros(5, np.float32)
WRONG: list[tuple[dict[str, NDArray[Any]], str]] = [
    ({"x": X}, r"^data lacks input 'w'\. It holds: x$"),
    (
        {"x": X, "w": W, "v": W},
        r"^data holds 'v', which is no input .* Inputs: x, w \(and labels\)",
    ),
    ({"x": X, "w": W.astype(float)}, "^data 'w' is float64, but the model takes float32: convert"),
    ({"x": X[:, :2], "w": W}, r"^data 'x' has shape \[5, 2\], but the model takes \['N', 3\]: the"),
    ({"x": X[0], "w": W}, r"^data 'x' has shape \[3\], but the model takes \['N', 3\]"),
    ({"x": X, "w": W[:4]}, r"differ in length, or are empty: {'x': 5, 'w': 4}"),
    ({"x": X[:0], "w": W[:0]}, r"differ in length, or are empty: {'x': 0, 'w': 0}"),
    ({"x": X, "w": W, "labels": W.astype(int)[1:]}, r"{'x': 5, 'w': 5, 'labels': 4}"),
    ({"x": X, "w": W, "labels": W}, r"'labels' is float32 of shape \[5\]; give class numbers"),
    ({"x": X, "w": W, "labels": np.eye(5, dtype=int)}, r"'labels' is int64 of shape \[5, 5\]"),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG, ids=[message for _, message in WRONG])
def test_data_that_do_not_fit_are_refused(arrays: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        inputs.load_data(arrays, parsed(PLAIN))


def test_one_array_under_another_name_is_told_whose_it_may_be() -> None:
    message = "data holds 'image', but the model's input is 'x'. Name the arrays after the inputs"
    with pytest.raises(InputError, match=message):
        inputs.load_data({"image": X[:4]}, parsed(BY_FOUR))


def test_an_input_without_axes_is_one_number_for_all_samples_or_one_for_each() -> None:
    model = parsed("g (float s, float[N,3] x) => (float[N,3] y) { y = Mul(x, s) }")
    data = inputs.load_data({"x": X, "s": np.array(2, np.float32)}, model)
    assert len(data) == len(X)
    assert [feeds["s"].item() for feeds, _ in inputs.batches(data, model)] == [2]
    numbers = np.array([1, 3, 1, 3], np.float32)
    every: dict[str, NDArray[Any]] = {"x": X[:4], "s": numbers, "labels": np.arange(4)}
    found = list(inputs.batches(inputs.load_data(every, model), model))
    shown = [(len(f["x"]), f["s"].item(), np.asarray(labels).tolist()) for f, labels in found]
    assert shown == [(2, 1, [0, 2]), (2, 3, [1, 3])]
    with pytest.raises(InputError, match="differ in length"):
        inputs.load_data({"x": X[:4], "s": np.ones(3, np.float32)}, model)


def test_a_size_of_minus_one_is_not_known() -> None:
    """Paddle's exporter writes it for what may vary."""
    model = parsed("g (float[5,3] x) => (float[5,3] y) { y = Neg(x) }")
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_value = -1
    assert graph.declared_sizes(model.graph.input[0]) == (None, None)
    assert "['?', '?']" in graph.interface(model)["x"]
    assert [len(f["x"]) for f, _ in inputs.batches(inputs.load_data({"x": X}, model), model)]
    assert len(inputs.batched(model, {"x": X[:1]}, 7)["x"]) == 7
    assert calibration({"x": X}, model).samples == len(X)


def test_files_that_hold_no_arrays_by_name_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "single.npy", X)
    (tmp_path / "text.npz").write_text("no archive")
    for name, message in {
        "none.npz": r"none\.npz: no such file\. Give an \.npz",
        "single.npy": r"single\.npy: is a single array\. Give an \.npz keyed by input name",
        "text.npz": r"text\.npz: not a readable \.npz file",
    }.items():
        with pytest.raises(InputError, match=message):
            inputs.load_data(tmp_path / name, parsed(PLAIN))


def test_a_fixed_batch_leaves_a_rest_out_and_any_batch_none() -> None:
    """Samples keep their labels."""
    data = Data({"x": np.arange(30, dtype=np.float32).reshape(10, 3)}, np.arange(10))
    fixed = list(inputs.batches(data, parsed(BY_FOUR)))
    assert [feeds["x"].shape for feeds, _ in fixed] == [(4, 3), (4, 3)]
    assert all(
        labels is not None and (feeds["x"][:, 0] == 3 * labels).all() for feeds, labels in fixed
    )
    count = 2 * inputs.BATCH + 1
    many = Data({"x": np.zeros((count, 3), np.float32), "w": np.zeros(count, np.float32)})
    sizes = [len(feeds["w"]) for feeds, _ in inputs.batches(many, parsed(PLAIN))]
    assert sizes == [inputs.BATCH, inputs.BATCH, 1]
    with pytest.raises(InputError, match="takes 4 samples at once, but the data holds 3"):
        list(inputs.batches(Data({"x": X[:3]}), parsed(BY_FOUR)))
