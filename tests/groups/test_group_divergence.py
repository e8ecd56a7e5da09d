"""The curve of a group at few widths."""

import json

import numpy as np

from onnxprune.groups.group_divergence import POINTS, group_divergence


def test_the_widths_that_matter_are_among_the_few() -> None:
    errors = np.linspace(1.0, 0.0, 101)
    found = group_divergence("w", errors, [50, 25], 37)
    widths = [width for width, _ in found.points]
    assert widths == sorted(widths, reverse=True) and widths[0] == 100 and widths[-1] == 1
    assert {25, 37, 50} <= set(widths) and len(widths) <= POINTS + 3
    assert all(value == float(f"{errors[width]:.6g}") for width, value in found.points)
    assert (found.channels, found.kept, found.measured) == (100, 37, (50, 25))


def test_a_group_of_one_channel_and_one_that_goes_whole() -> None:
    found = group_divergence("w", np.array([0.5, 0.0]), [0], 0)
    assert found.points == ((1, 0.0), (0, 0.5))
    assert json.loads(json.dumps(found.values())) == {
        "name": "w", "channels": 1, "kept": 0, "measured": [0],
        "divergence": {"1": 0.0, "0": 0.5},
    }  # fmt: skip
