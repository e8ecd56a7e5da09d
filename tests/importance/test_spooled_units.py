"""Units are measured in other processes as they are in this one, bit for bit."""

from collections.abc import Iterable
from pathlib import Path

import joblib
import numpy as np
import pytest
from networks import NETWORKS, samples_of

from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import analyze
from onnxprune.importance.channels import Sensitivity
from onnxprune.importance.ranking import rank_on_samples
from onnxprune.importance.spooled_units import _opened
from onnxprune.importance.units_channels import channel_arrays, measure_channels
from onnxprune.settings import Settings


def table(name: str, folder: Path, jobs: int, progress=lambda share: None) -> list[Sensitivity]:
    model = NETWORKS[name]()
    options = Settings(jobs=jobs, scratch=folder)
    analysis = analyze(model, options, biases=True)
    feeds = samples_of(model, np.random.default_rng(3))
    data = calibration(feeds, model, options, analysis.nodes)
    ranked, scores = rank_on_samples(analysis, data, options)
    arrays = channel_arrays(ranked, scores, data)
    return measure_channels(ranked, arrays, data, options, progress)


def same(one: Iterable[Sensitivity], other: Iterable[Sensitivity]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.group.name == b.group.name
        for (axis, own), (other_axis, others) in zip(a.group.axes(), b.group.axes(), strict=True):
            assert axis == other_axis and np.array_equal(own, others)
        assert a.measured == b.measured and a.unmeasured == b.unmeasured == ""
        assert np.array_equal(a.errors, b.errors) and np.array_equal(a.ranking, b.ranking)


@pytest.mark.parametrize("name", ["residual_spine", "vision_transformer", "lstm", "llama"])
def test_what_files_carry_is_enough(name: str, tmp_path: Path):
    """Threads take the same way through files, and start at once."""
    shares: list[float] = []
    with joblib.parallel_config("threading"):
        found = table(name, tmp_path, 2, shares.append)
    same(found, table(name, tmp_path, 1))
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert list(tmp_path.iterdir()) == []
    assert not _opened.cache_info().currsize


def test_processes_give_the_same(tmp_path: Path):
    same(table("vision_transformer", tmp_path, 2), table("vision_transformer", tmp_path, 1))
    assert list(tmp_path.iterdir()) == []
