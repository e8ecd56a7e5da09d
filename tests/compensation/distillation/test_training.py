"""What each step of training sees."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from networks import Net

from onnxprune.compensation.distillation.models import Student, open_models
from onnxprune.compensation.distillation.schedule import BATCH, Schedule
from onnxprune.compensation.distillation.training import rows_in, step_batches, train
from onnxprune.groups.analysis import analyze


def test_batches_are_divided_into_steps():
    x = np.arange(80).reshape(80, 1)
    parts = list(step_batches([{"x": x, "y": 2 * x}]))
    assert [rows_in(part) for part in parts] == [BATCH, BATCH, 16]
    np.testing.assert_array_equal(np.concatenate([part["x"] for part in parts]), x)
    for feeds in ({"x": x, "s": np.array(1.0)}, {"x": x, "y": x[:40]}):
        (part,) = step_batches([feeds])  # these belong together in a way that is not known
        assert part == feeds and rows_in(part) == 80


@dataclass
class Recorder:
    """A segment that keeps what it is fed."""

    segment: Any
    fed: list[np.ndarray] = field(default_factory=list)

    def run(self, feeds):
        self.fed.append(feeds["x"])
        return self.segment.run(feeds)


def classifier(symmetric: bool):
    """Class scores that do not change when the input is mirrored, if the kernel is symmetric."""
    net = Net(x=("N", 1, 9, 9))
    kernel = net.rng.standard_normal((6, 1, 3, 3)).astype(np.float32)
    kernel = kernel + kernel[..., ::-1] if symmetric else np.cumsum(kernel, 3)
    y = net.relu(net.op("Conv", "x", net.const(kernel), net.weight(6)))
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    return analyze(net.model(net.gemm(y, 6, 4)))


@pytest.mark.parametrize("symmetric", [True, False])
def test_natural_augmentations_are_trained_on(symmetric: bool):
    """Steps see mirrored samples only of a model that does not tell them from others."""
    x = np.random.default_rng(0).standard_normal((32, 1, 9, 9)).astype(np.float32)
    x[:, :, :, :4] *= np.linspace(4, 1, 4, dtype=np.float32)  # left is not right
    analysis = classifier(symmetric)
    models = open_models(analysis, Student(analysis), {"x": x})
    assert models is not None
    recorder: Any = Recorder(models.teacher.segment)
    models = replace(models, teacher=replace(models.teacher, segment=recorder))
    train(models, [{"x": x}], Schedule([], [], 8), lambda share: None)
    seen = np.concatenate(recorder.fed[-8:])
    mirrored = (seen[:, None] == x[None, ..., ::-1]).all((2, 3, 4)).any(1)
    same = (seen[:, None] == x[None]).all((2, 3, 4)).any(1)
    assert same.any() and mirrored.any() == symmetric
    assert not (same | mirrored).all()  # some steps see mixtures


def test_a_student_that_is_right_already_hardly_moves():
    analysis = classifier(True)
    x = np.random.default_rng(0).standard_normal((32, 1, 9, 9)).astype(np.float32)
    models = open_models(analysis, Student(analysis), {"x": x})
    assert models is not None
    weights = train(models, [{"x": x}], Schedule([], [], 4), lambda share: None)
    assert set(weights) == {name for tuned in models.layers for name in tuned.names}
    for name, value in weights.items():
        np.testing.assert_allclose(value, analysis.read(name), atol=1e-3)
