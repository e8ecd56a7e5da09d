"""Arrays in files come back as they were, text among them."""

from pathlib import Path

import numpy as np

from onnxprune.parallel.array_files import array_at, arrays_at, keep_array, keep_arrays


def test_arrays_come_back_by_name_in_their_order(tmp_path: Path):
    arrays = {
        "a/b:0": np.arange(6, dtype=np.float32).reshape(2, 3),
        "": np.array([True, False]),
        "words": np.array([["short"], ["much longer"]], object),
        "one": np.array(3.5),
    }
    kept = keep_arrays(tmp_path / "arrays", arrays)
    found = arrays_at(tmp_path / "arrays", kept)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


def test_numbers_are_mapped_not_copied(tmp_path: Path):
    keep_array(tmp_path / "a.npy", np.zeros(4))
    assert isinstance(array_at(tmp_path / "a.npy"), np.memmap)
