"""Timing models against each other."""

import math

import pytest
from clock import divided
from paths import MODELS

from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.timer import SignedModel, TimedModel
from onnxprune.ir.stopwatch import Stopwatch

DIGITS = str(MODELS / "digits.onnx")


@pytest.mark.parametrize(
    ("found", "sure"),
    [
        ([0.7] * 3, False),
        ([0.7] * 4, True),
        ([0.6, 0.8, 0.7, 0.7], False),
        ([0.69, 0.71] * 50, True),
    ],
)
def test_a_restless_machine_takes_longer(found: list[float], sure: bool):
    assert timer.settled(found) is sure


def test_real_clock():
    """Nothing but that real times are numbers, whatever the machine is busy with."""
    _, subgraphs = divided(DIGITS)
    jobs = dict(subgraphs.job(subgraph, {}) for subgraph in subgraphs.single)
    times = TimeCache(Stopwatch()).measure(jobs, SignedModel("reference", timer.REFERENCE))
    assert all(math.isfinite(time) and time > 0 for time in times.values())
    broken = TimedModel(b"no model", {})
    assert math.isnan(timer.timed(timer.REFERENCE, [broken], Stopwatch())[0])


def test_a_model_takes_as_long_as_itself():
    job = timer.REFERENCE
    assert 0.5 < timer.ratio(job.model, job.model, job.feeds, Stopwatch()) < 2
