"""How many rounds are worth it, and which samples are held out."""

import numpy as np
import pytest

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.distillation.schedule import Cost, Limits, rounds_within, schedule_for

LIMITS = Limits(
    least_rounds=4, most_rounds=8, least_steps=8, macs=1e12, macs_if_lossy=1e13, lossy=0.01
)


def samples(count: int, source: str = "") -> Calibration:
    """Calibration data of one number each."""
    return Calibration(({"x": np.zeros((count, 1), np.float32)},), (count,), "", source)


@pytest.mark.parametrize(
    ("macs", "divergence", "rounds"),
    [
        (1.0, 0.0, 8),
        (2e8, 0.0, 5),  # a fourth for the teacher, three fourths for the student
        (3e8, 0.0, 0),  # three rounds are not worth it
        (3e8, 1.0, 8),
        (1e11, 1.0, 0),
    ],
)
def test_more_work_is_done_where_more_was_lost(macs: float, divergence: float, rounds: int):
    assert rounds_within(LIMITS, 1000, Cost(macs / 4, macs / 4, divergence)) == rounds


@pytest.mark.parametrize(("distill", "rounds"), [(False, 0), (True, 8), (3, 3), (20, 20)])
def test_all_samples_are_fitted_where_nothing_is_tuned(distill: bool | int, rounds: int):
    data = samples(1000)
    fit, found = schedule_for(distill, data, Cost(1.0, 1.0), LIMITS)
    assert (0 if found is None else found.rounds) == rounds
    assert (fit is data) == (found is None)
    if found is not None:
        held = sum(len(feeds["x"]) for feeds in found.held)
        assert held == 1000 // 16 and fit.samples == 1000 - held
        assert found.fit == fit.batches


def test_few_samples_are_seen_more_often():
    few = LIMITS._replace(least_steps=60)
    assert rounds_within(few, 96, Cost(1.0, 1.0)) == 20  # of three steps each
    assert rounds_within(few, 10000, Cost(1.0, 1.0)) == 8


@pytest.mark.parametrize(("distill", "near"), [(True, LIMITS.near), (1, 0.0)])
def test_what_is_near_enough_is_tuned_only_if_asked(distill: bool | int, near: float):
    _, found = schedule_for(distill, samples(64), Cost(1.0, 1.0), LIMITS)
    assert found is not None and found.near == near


@pytest.mark.parametrize(
    ("distill", "macs", "rounds"),
    [
        (True, 1.0, 8),
        (True, 1e8, 5),  # ten of the given samples alone, so eight
        (True, 2e8, 4),  # five of them, so never fewer than are worth it
        (True, 3e8, 0),
        (3, 2e8, 3),
    ],
)
def test_further_samples_are_tuned_on_and_nothing_else(
    distill: bool | int, macs: float, rounds: int
):
    data, more = samples(1000), samples(1000, "any pictures")
    fit, found = schedule_for(distill, data, Cost(macs / 4, macs / 4), LIMITS, more)
    assert (0 if found is None else found.rounds) == rounds
    if found is not None:
        assert fit.samples == sum(len(feeds["x"]) for feeds in found.fit) - 1000
        assert found.fit == (*fit.batches, *more.batches)
        assert sum(len(feeds["x"]) for feeds in found.held) == 1000 // 16
        assert found.told == ", 1000 further samples among them: any pictures"
