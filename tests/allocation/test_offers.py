"""Widths on offer."""

import pytest

from onnxprune.allocation.offers import Limits, offers
from onnxprune.types import Group


def group(channels: int) -> Group:
    return Group("g", channels, ())


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), list(range(1, 13))),
        (Limits(min_channels=10), [10, 11, 12]),
        (Limits(round_to=5), [5, 10, 12]),
        (Limits(min_channels=6, round_to=5), [10, 12]),
        (Limits(min_channels=99), [12]),
        (Limits(round_to=100), [12]),
    ],
)
def test_widths_within_limits(limits: Limits, expected: list[int]):
    assert offers(group(12), limits).tolist() == expected


def test_a_ratio_leaves_the_nearest_width():
    assert offers(group(12), Limits(), 0.5).tolist() == [6]
    assert offers(group(12), Limits(round_to=5), 0.5).tolist() == [5]
    assert offers(group(12), Limits(round_to=5), 1.0).tolist() == [12]
    assert offers(group(12), Limits(min_channels=9), 0.1).tolist() == [9]
