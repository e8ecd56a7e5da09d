"""Activations beyond a limit lie in files, and memory does not grow with the number of samples."""

import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from networks import NETWORKS, samples_of

import onnxprune
from onnxprune import InputError
from onnxprune.calibration import activation_store, batches
from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.workplace import Workplace

ARRAYS = [
    np.arange(60, dtype=np.float32).reshape(3, 4, 5).transpose(2, 0, 1),
    np.float64(3.5) * np.ones(()),
    np.array([True, False]),
    np.array([b"a", b"bc"], object),
    np.zeros((0, 3), np.int64),
    np.arange(4).astype(ml_dtypes.bfloat16),
]


@pytest.mark.parametrize("memory", [0, 10**6])
def test_arrays_come_back_as_they_went(memory: int):
    store = ActivationStore([{"given": np.ones(3)}, {}], memory=memory)
    for k, batch in enumerate(store.batches):
        store.add(batch, {f"t{i}": array if k else array[...] for i, array in enumerate(ARRAYS)})
    assert len(store.files) == (4 if memory == 0 else 0)  # neither objects nor what is empty
    for batch in store.batches:
        for i, array in enumerate(ARRAYS):
            np.testing.assert_array_equal(batch[f"t{i}"], array)
            assert batch[f"t{i}"].dtype == array.dtype == batch.dtype(f"t{i}")
            assert batch.shape(f"t{i}") == array.shape
    store.drop(["t0", "t1", "given"])
    assert sorted(store.batches[0]) == ["t2", "t3", "t4", "t5"] and "t0" not in store.files
    store.drop(list(store.batches[0]))
    assert store.used == 0 and not store.files


def test_space_is_free_again_after_a_tensor_went():
    array = np.ones(1000, np.float32)
    store = ActivationStore([{}], memory=array.nbytes)
    for k in range(5):
        store.add(store.batches[0], {f"t{k}": array})
        assert not store.files and store.used == array.nbytes
        store.drop([f"t{k}"])
        assert store.used == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    store = ActivationStore([{}], Workplace(tmp_path / "no"), memory=0)
    with pytest.raises(InputError, match=r"activations need a temporary file.*--calib-samples"):
        store.add(store.batches[0], {"t": np.ones(3)})


def test_memory_does_not_grow_with_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beyond the limits, four times the samples take no more memory."""
    monkeypatch.setattr(activation_store, "MEMORY", 2**18)
    monkeypatch.setattr(batches, "LIMITS", batches.BatchLimits(samples=16, memory=2**16))
    monkeypatch.setattr("onnxprune.compensation.relu_least_squares.ROW_BYTES", 2**18)
    monkeypatch.setattr("onnxprune.compensation.distillation.training.SCALED_ON", 64)
    model, peaks = NETWORKS["residual_spine"](), []
    for count in (32, 256, 1024):
        np.savez(tmp_path / "c.npz", **samples_of(model, np.random.default_rng(3), count))
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
