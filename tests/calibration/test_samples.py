"""Calibration data: random inputs that are seeded, and samples that are held out."""

import itertools
from typing import Any

import numpy as np
import pytest
from sample_data import TWO, joined

from onnxprune import InputError, Settings
from onnxprune.calibration.samples import Calibration, calibration, hold_out
from onnxprune.settings import settings_of


def test_random_is_seeded_and_said():
    settings = Settings(calib_samples=200)
    first, again = (calibration("random", TWO, settings) for _ in range(2))
    assert first.samples == 200 and first.digest == again.digest
    assert first.source == "random inputs" and "say little" in first.notes[0]
    assert calibration("random", TWO, Settings(calib_samples=200, seed=1)).digest != first.digest
    assert len(np.unique(joined(first, "a"), axis=0)) == 200


@pytest.mark.parametrize(
    ("sizes", "whole", "held"),
    [
        ((64, 64, 22), False, (4, 4, 1)),
        ((1,) * 20, True, (1, 1)),
        ((4,) * 4, False, (1, 1)),
        ((7,), False, ()),
    ],
)
def test_samples_are_held_back(sizes, whole, held):
    """About one in eight (16 of 64), from all over, and each is on one side."""
    each = 16 if sizes[0] == 64 else 8
    ends = np.cumsum((0, *sizes))
    batches = tuple({"x": np.arange(a, b)} for a, b in itertools.pairwise(ends))
    rest, back = hold_out(Calibration(batches, tuple(sizes), "", "", whole=whole), each)
    assert back.sizes == held and rest.samples + back.samples == sum(sizes)
    seen = [v for part in (rest, back) for feeds in part.batches for v in feeds["x"].tolist()]
    assert sorted(seen) == list(range(sum(sizes)))
    for part in (rest, back):
        assert tuple(len(feeds["x"]) for feeds in part.batches) == part.sizes


@pytest.mark.parametrize("setting", [{"calib_samples": 0}, {"steps": 0}, {"max_drop": -1.0}])
def test_settings_out_of_range(setting: dict[str, Any]):
    with pytest.raises(InputError, match=next(iter(setting))):
        settings_of(None, setting)
