"""Runs and samples: as many as the bound allows, never more passes with more samples."""

import pytest

from onnxprune.importance.measuring_plan import (
    ENOUGH_SAMPLES,
    FEWEST_SAMPLES,
    MOST_RUNS,
    MOST_SAMPLES,
    PASSES,
    measuring_plan,
)


@pytest.mark.parametrize("samples", [16, 64, 512, 10_000])
@pytest.mark.parametrize("units", [1, 10, 60, 200])
def test_the_bound_in_passes_holds(samples: int, units: int):
    plan = measuring_plan(lambda runs: 0.5 * units * runs, samples)
    passes = 0.5 * units * plan.runs * plan.samples / samples
    assert passes <= PASSES * 1.1 or plan == (1, FEWEST_SAMPLES)
    assert min(FEWEST_SAMPLES, samples) <= plan.samples <= min(MOST_SAMPLES, samples)


def test_more_widths_where_there_are_samples_for_them():
    plans = [measuring_plan(lambda runs: 5.0 * runs, n) for n in (64, 512, 2048, 10_000)]
    assert [plan.runs for plan in plans] == sorted(plan.runs for plan in plans)
    assert plans[0].runs == 1 and plans[-1].runs == MOST_RUNS
    assert all(plan.samples >= ENOUGH_SAMPLES for plan in plans if plan.runs > 1)


def test_nothing_to_measure():
    assert measuring_plan(lambda runs: 0.0, 8) == (MOST_RUNS, 8)


def test_few_samples_are_all_taken():
    assert measuring_plan(lambda runs: 100.0 * runs, FEWEST_SAMPLES) == (1, FEWEST_SAMPLES)
    assert measuring_plan(lambda runs: 100.0 * runs, 1) == (1, 1)
