"""Rows of channels: where they are measured, and which channels stay."""

import numpy as np
import pytest
from networks import NETWORKS

from onnxprune.groups.analysis import analyze
from onnxprune.importance.channels import (
    WIDTHS,
    Sensitivity,
    best_channels,
    response,
    widths_measured,
)
from onnxprune.importance.measuring_plan import MOST_RUNS
from onnxprune.importance.sensitivity import Measured
from onnxprune.types import Group


def group(channels: int) -> Group:
    return Group("g", channels, ())


def test_the_best_channels_stay():
    rankings = [np.array([2, 0, 1, 3]), np.array([1, 0])]
    table = [Sensitivity(group(len(r)), r, np.zeros(len(r) + 1), {}) for r in rankings]
    kept = best_channels(table, np.array([2, 1]))
    assert [np.flatnonzero(mask).tolist() for mask in kept] == [[0, 2], [1]]


@pytest.mark.parametrize("channels", [1, 2, 5, 100])
def test_widths_are_measured_once_each_the_widest_first(channels: int):
    for runs in range(1, len(WIDTHS) + 1):
        widths = widths_measured(group(channels), False, runs)
        assert widths == sorted(set(widths), reverse=True) and len(widths) <= runs
        assert all(0 < width < channels for width in widths)
        assert widths_measured(group(channels), True, runs) == [*widths, 0]


def test_hundred_channels_are_measured_at_the_shares():
    assert widths_measured(group(100), False, 5) == [80, 60, 40, 25, 12]
    assert widths_measured(group(100), False, 1) == [50]


def test_there_are_shares_for_every_number_of_runs():
    assert [len(shares) for shares in WIDTHS] == list(range(1, MOST_RUNS + 1))


def test_a_response_takes_the_first_of_the_ranking():
    groups = analyze(NETWORKS["chain"]()).groups
    ranking = np.arange(groups[0].channels)[::-1]
    errors = np.zeros(groups[0].channels + 1)
    seen: list[list[int]] = []

    def weights(kept: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(kept.tolist())
        return {}

    made = response(groups[0], ranking, errors, weights)
    made.weights(3.0)
    assert seen == [ranking[:3].tolist()]
    row = made.row(Measured(errors, {3.0: 0.5, 16.0: 0.0}, 8))
    assert row.measured == {3: 0.5, 16: 0.0} and row.group is groups[0]
