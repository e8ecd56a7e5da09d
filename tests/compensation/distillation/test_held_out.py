"""Divergence on held-out samples and mixtures of them."""

import numpy as np
import pytest
from networks import NETWORKS, samples_of
from present import present

from onnxprune.calibration.divergence import divergence
from onnxprune.compensation.distillation.held_out import MIXTURES, held_out, mean_divergence
from onnxprune.compensation.distillation.models import Student, open_models
from onnxprune.groups.analysis import analyze


def test_it_is_the_mean_over_samples():
    model = NETWORKS["residual_spine"]()
    analysis = analyze(model)
    rng = np.random.default_rng(0)
    batches = [samples_of(model, rng, count) for count in (6, 2)]
    models = open_models(analysis, Student(analysis), batches[0])
    assert models is not None
    held = held_out(models, batches)
    assert [len(feeds["x"]) for feeds in held.feeds] == [6, 2] + MIXTURES * [6] + MIXTURES * [2]
    assert all((feeds["x"] != batches[0]["x"]).any() for feeds in held.feeds[2 : 2 + MIXTURES])
    assert mean_divergence(models, held, {}) == pytest.approx(0, abs=1e-9)
    bias = models.layers[-1].names[1]
    changed = {bias: present(analysis.read(bias)) + np.linspace(-1, 1, 10, dtype=np.float32)}
    fed = {name: models.student.stored(name) for name in models.fed} | changed
    each = [
        divergence(models.teacher.output_values(feeds), models.forward.run(feeds, fed))
        for feeds in held.feeds
    ]
    sizes = [len(feeds["x"]) for feeds in held.feeds]
    got = mean_divergence(models, held, changed)
    assert got > 1e-3 and got == pytest.approx(np.average(each, weights=sizes))
