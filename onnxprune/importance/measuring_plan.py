"""How often the model is run for each unit, and on how many samples: bounded in passes.

One pass is one run of the original over all calibration samples. A run for one unit costs the share
of the model that lies behind what it changes; all of them together are to cost no more than
`PASSES`, however many samples, units and layers there are. Few samples therefore give a noisier
table, not a slower one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["SETTINGS", "MeasuringPlan", "measuring_plan"]

#: What all runs together may cost, in passes of the calibration samples.
PASSES = 3.0
#: Runs for each unit at most, where there are so many samples for each of them.
MOST_RUNS, ENOUGH_SAMPLES = 5, 192
#: Samples of a run: at most, and at least, if there are as many.
MOST_SAMPLES, FEWEST_SAMPLES = 1024, 2
#: What measured divergences depend on, for keys of caches.
SETTINGS = (PASSES, MOST_RUNS, ENOUGH_SAMPLES, MOST_SAMPLES, FEWEST_SAMPLES)


class MeasuringPlan(NamedTuple):
    """Runs for each unit, and samples of each run."""

    runs: int
    samples: int


def measuring_plan(cost: Callable[[int], float], samples: int) -> MeasuringPlan:
    """Choose runs and samples within the bound.

    Args:
        cost: of one sample in all runs, in runs of the whole model, by how many runs each unit has.
        samples: how many calibration samples there are.
    """
    for runs in range(MOST_RUNS, 0, -1):
        each = max(cost(runs), 1e-9)
        most = PASSES * samples / each
        if runs == 1 or most >= min(ENOUGH_SAMPLES, samples):
            break
    return MeasuringPlan(runs, int(min(max(most, FEWEST_SAMPLES), MOST_SAMPLES, samples)))
