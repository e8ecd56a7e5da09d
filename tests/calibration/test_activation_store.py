"""Activations beyond a limit lie in files, and memory does not grow with the number of samples."""

import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from networks import NETWORKS

import onnxprune
from onnxprune import InputError
from onnxprune.calibration import activation_store
from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.incremental_run import IncrementalRun
from onnxprune.ir import graph, runtime

ARRAYS = [
    np.arange(60, dtype=np.float32).reshape(3, 4, 5).transpose(2, 0, 1),
    np.float64(3.5) * np.ones(()),
    np.array([True, False]),
    np.array([b"a", b"bc"], object),
    np.zeros((0, 3), np.int64),
    np.arange(4).astype(ml_dtypes.bfloat16),
]


@pytest.mark.parametrize("memory", [0, 10**6])
def test_arrays_come_back_as_they_went(memory: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(activation_store, "MEMORY", memory)
    held = ActivationStore([{"given": np.ones(3)}, {}])
    for k, batch in enumerate(held.batches):
        held.add(batch, {f"t{i}": array if k else array[...] for i, array in enumerate(ARRAYS)})
    assert (len(held.files) == 4) == (memory == 0)
    for batch in held.batches:
        for i, array in enumerate(ARRAYS):
            np.testing.assert_array_equal(batch[f"t{i}"], array)
            assert batch[f"t{i}"].dtype == array.dtype == batch.dtype(f"t{i}")
            assert batch.shape(f"t{i}") == array.shape
    held.drop(["t0", "t1", "given"])
    assert sorted(held.batches[0]) == ["t2", "t3", "t4", "t5"] and "t0" not in held.files
    held.drop(list(held.batches[0]))
    assert held.used == 0 and not held.files


def test_space_is_free_again_after_a_tensor_went(monkeypatch: pytest.MonkeyPatch):
    array = np.ones(1000, np.float32)
    monkeypatch.setattr(activation_store, "MEMORY", array.nbytes)
    held = ActivationStore([{}])
    for k in range(5):
        held.add(held.batches[0], {f"t{k}": array})
        held.drop([f"t{k}"])
        assert not held.files and held.used == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(activation_store, "MEMORY", 0)
    held = ActivationStore([{}], tmp_path / "no")
    with pytest.raises(InputError, match=r"temporary file.*--calib-samples"):
        held.add(held.batches[0], {"t": np.ones(3)})


def model_and_samples(count: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    model = NETWORKS["residual_spine"]()
    (value,) = graph.graph_inputs(model)
    sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    rng = np.random.default_rng(3)
    return model, {value.name: rng.standard_normal((count, *sizes)).astype(np.float32)}


def test_a_carrier_gives_the_same_from_files(monkeypatch: pytest.MonkeyPatch):
    model, feeds = model_and_samples(12)
    (name,) = feeds
    batches = [{name: feeds[name][k : k + 4]} for k in range(0, 12, 4)]
    session = runtime.open_session(graph.model_bytes(model))
    read = graph.reader(model)
    for memory in (10**9, 2000, 0):
        monkeypatch.setattr(activation_store, "MEMORY", memory)
        incremental = IncrementalRun(model, batches, {})
        for at in range(1, len(incremental.bare.graph.node) + 1):
            incremental.advance(at, read)
        for values, batch in zip(incremental.values, batches, strict=True):
            for output, array in runtime.run(session, batch).items():
                np.testing.assert_allclose(values[output], array, rtol=1e-5, atol=1e-5)


def test_memory_does_not_grow_with_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beyond the limits, four times the samples take no more memory."""
    monkeypatch.setattr(activation_store, "MEMORY", 2**18)
    monkeypatch.setattr("onnxprune.calibration.samples.MEMORY", 2**16)
    monkeypatch.setattr("onnxprune.calibration.samples.BATCH", 16)
    monkeypatch.setattr("onnxprune.compensation.least_squares.ROW_BYTES", 2**18)
    monkeypatch.setattr("onnxprune.compensation.distillation.distill.SEEN", 64)
    peaks = []
    for count in (32, 256, 1024):
        model, feeds = model_and_samples(count)
        np.savez(tmp_path / "c.npz", **feeds)
        del feeds
        tracemalloc.start()
        onnxprune.prune(
            model,
            {"macs": 0.7},
            calib=tmp_path / "c.npz",
            calib_samples=count,
            distill=1,
            latency=False,
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.15 * peaks[1]
