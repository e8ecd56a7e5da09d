"""Moments that are kept: read as they were written, and not at all where files are damaged."""

from pathlib import Path

import numpy as np
import pytest

from onnxprune import InputError
from onnxprune.atomic_files import Store
from onnxprune.training.checkpoint import Checkpoint, Epoch, Moment, keep, kept
from onnxprune.training.parameters import State

KEY = "0123456789abcdef" * 2


def moment(epoch: int = 2) -> Moment:
    rng = np.random.default_rng(epoch)
    states = [State(rng.random((2, 3)), rng.random((2, 3)), np.zeros(0)) for _ in range(12)]
    history = [Epoch(0.1 + 0.2, None), Epoch(1 / 3, 0.5, 0.1)]
    return Moment(epoch, 7, states, [state.value for state in states], history)


def test_what_is_read_is_what_was_written(tmp_path: Path):
    place = Checkpoint(Store(tmp_path / "new"), KEY)
    assert kept(place) is None
    keep(place, moment(1))
    keep(place, moment(2))
    found, expected = kept(place), moment(2)
    assert found is not None
    assert (found.epoch, found.step, list(found.history)) == (2, 7, list(expected.history))
    for a, b in zip(found.states, expected.states, strict=True):
        assert all((x == y).all() and x.shape == y.shape for x, y in zip(a, b, strict=True))
    assert all((a == b).all() for a, b in zip(found.best, expected.best, strict=True))
    assert len(list((tmp_path / "new").iterdir())) == 2  # nothing of the moment before is left


def test_a_damaged_file_is_no_moment(tmp_path: Path):
    place = Checkpoint(Store(tmp_path), KEY)
    keep(place, moment())
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:-1])
    assert kept(place) is None


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: cannot be written: .* Choose another folder"):
        keep(Checkpoint(Store(tmp_path / "file"), KEY), moment())
