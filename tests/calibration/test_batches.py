"""Batches that the model takes, no larger than their limits, in memory or in a file."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from sample_data import BY_TWO, ONE, TWO, A, B, X, joined, model

from onnxprune import Settings
from onnxprune.calibration.batches import BatchCollector, BatchLimits, activation_growth, divided
from onnxprune.calibration.read_samples import Samples
from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import analyze

ONE_ROW = model("m (float[1,1,3,4] x) => (float[1,1,3,4] y) { y = Relu(x) }")


def test_batches_are_as_large_as_the_model_takes():
    many = np.repeat(X, 30, 0)
    sizes = [len(feeds["x"]) for feeds in calibration(many, ONE).batches]
    assert sizes == [64, 64, 64, 64, 44]
    found = calibration((v[None] for v in X[:9]), BY_TWO)
    assert [len(feeds["x"]) for feeds in found.batches] == [2, 2, 2, 2] and found.samples == 8
    assert "1 calibration samples were left out: the model takes 2 at once" in found.notes
    np.testing.assert_array_equal(joined(found), X[:8])


def test_lengths_that_differ_go_to_batches_of_their_own():
    feeds = [{"a": A[k : k + 1], "b": B[k : k + 1, : 3 + k % 2]} for k in range(10)]
    found = calibration(feeds, TWO)
    assert sorted(b["b"].shape for b in found.batches) == [(5, 3), (5, 4)]


def test_a_large_sample_makes_small_batches():
    limits = BatchLimits(bytes=3 * X[0].nbytes)
    assert calibration(X, ONE, limits=limits).sizes == (3, 3, 3, 1)


def test_a_reused_buffer_does_not_change_what_was_yielded():
    buffer = np.empty((1, 3, 4), np.float32)

    def stream():
        for value in X:
            buffer[0] = value
            yield buffer

    np.testing.assert_array_equal(joined(calibration(stream(), ONE)), X)


def test_many_samples_lie_in_a_file(tmp_path: Path):
    """16 MB of samples with 1 MB allowed; a few batches are in memory while they fill up."""
    limits = BatchLimits(bytes=2**18, memory=2**20)
    wide = model("m (float[N,4096] x) => (float[N,4096] y) { y = Relu(x) }")
    stream = (np.full((1, 4096), k, np.float32) for k in range(1024))
    tracemalloc.start()
    found = calibration(stream, wide, Settings(scratch=tmp_path), limits=limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20
    for _ in range(2):
        values = [feeds["x"][:, 7] for feeds in found.batches]
        np.testing.assert_array_equal(np.concatenate(values), np.arange(1024))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux does")
def test_batches_in_a_file_share_one_open_file():
    """A fixed batch of one sample makes as many batches as there are samples."""
    before = len(os.listdir("/proc/self/fd"))
    found = calibration(X.repeat(40, 0)[:, None], ONE_ROW, limits=BatchLimits(memory=0))
    assert len(found.batches) == 400
    assert len(os.listdir("/proc/self/fd")) - before <= 1
    np.testing.assert_array_equal(joined(found)[:, 0], X.repeat(40, 0))


def test_every_batch_of_a_collector_is_kept_once():
    collector = BatchCollector(None, BatchLimits(samples=4, memory=2 * X[:4].nbytes), None)
    for start in range(0, 10, 3):
        collector.add(Samples("data", {"x": X[start : start + 3]}, True))
    assert collector.sizes == [4, 4] and collector.finish("data") == 0
    assert collector.sizes == [4, 4, 2]
    got = [feeds["x"] for feeds in collector.batches()]
    collector.close()
    np.testing.assert_array_equal(np.concatenate(got), X)  # the last one lies in a file


def test_division_by_bytes_of_the_largest_activation():
    """4 bytes for each of 12 · 5 elements of a sample's largest activation: 240."""
    batches, sizes = divided([{"x": X}, {"x": X[:3]}], [10, 3], 5.0, 4 * 240 + 239)
    assert sizes == (4, 4, 2, 3)
    np.testing.assert_array_equal(np.concatenate([b["x"] for b in batches]), [*X, *X[:3]])


def test_batches_suit_the_largest_activation():
    """The hidden layer is sixteen times as wide as the input."""
    draw = np.random.default_rng(0).standard_normal
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                onnx.helper.make_node("MatMul", ["x", "w"], ["h"]),
                onnx.helper.make_node("MatMul", ["h", "v"], ["y"]),
            ],
            "wide",
            [onnx.helper.make_tensor_value_info("x", 1, ["N", 8])],
            [onnx.helper.make_tensor_value_info("y", 1, ["N", 4])],
            [
                onnx.numpy_helper.from_array(draw(shape).astype(np.float32), name)
                for name, shape in (("w", (8, 128)), ("v", (128, 4)))
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    nodes = analyze(model).nodes
    x = draw((50, 8)).astype(np.float32)
    assert activation_growth(nodes) == 16
    limits = BatchLimits(bytes=20 * 128 * 4)
    whole = calibration(x, model, limits=limits)
    assert whole.sizes == (50,)
    for source in (x, whole):
        found = calibration(source, model, nodes=nodes, limits=limits)
        assert found.sizes == (20, 20, 10) and found.digest == whole.digest
        np.testing.assert_array_equal(joined(found), x)
    limits = BatchLimits(bytes=1)
    assert calibration(x, model, nodes=nodes, limits=limits).sizes == (1,) * 50
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 10
    assert calibration(x, fixed, nodes=nodes, limits=limits).sizes == (10,) * 5


def test_a_model_that_makes_nothing_is_not_divided():
    assert divided([{"x": X}], [10], 0.0, 100)[1] == (10,)
