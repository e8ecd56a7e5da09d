"""Units of heads: their numbers, their order, and where they lie."""

import numpy as np
import pytest
from text_models import two_heads

from onnxprune.groups.analysis import analyze
from onnxprune.groups.head_units import order_of, reordered, single_units
from onnxprune.types import Axis, Group, Site

#: Three channels of two heads: channel c lies at c in the first head and at 3 + c in the second.
COLUMNS = np.array([[0, 3], [1, 4], [2, 5]])
HEADS = Group(
    "q",
    3,
    (
        Site((Axis("w", 1),), COLUMNS, 6),
        Site((Axis("s", 2),), np.array([[0], [1], [2]]), 3, nominal=True),
    ),
    heads=2,
)


def test_each_head_s_part_of_a_channel_becomes_a_channel() -> None:
    single = single_units(HEADS)
    assert (single.channels, single.heads, single.name) == (6, 1, "q")
    (site,) = single.sites  # the nominal one names no positions
    assert site.positions.tolist() == [[0], [3], [1], [4], [2], [5]]


def test_the_best_unit_of_each_head_comes_first() -> None:
    """Units from worst to best: 4 and 3 are the best of heads 0 and 1."""
    order = order_of(np.array([0, 5, 1, 2, 3, 4]), HEADS)
    assert order.tolist() == [[2, 1], [1, 0], [0, 2]]


def test_channels_take_the_places_that_their_heads_choose() -> None:
    arranged = reordered(HEADS, np.array([[2, 1], [1, 0], [0, 2]]))
    assert arranged.sites[0].positions.tolist() == [[2, 4], [1, 3], [0, 5]]
    assert arranged.sites[1] is HEADS.sites[1]
    assert (arranged.channels, arranged.heads) == (3, 2)


def test_the_order_that_is_there_changes_nothing() -> None:
    same = reordered(HEADS, np.repeat(np.arange(3)[:, None], 2, 1))
    assert np.array_equal(same.sites[0].positions, COLUMNS)


@pytest.mark.parametrize("seed", range(3))
def test_every_unit_stays_in_its_head(seed: int) -> None:
    (width, _) = analyze(two_heads()).groups
    assert width.heads == 2
    units = np.random.default_rng(seed).permutation(width.channels * width.heads)
    arranged = reordered(width, order_of(units, width))
    for before, after in zip(width.sites, arranged.sites, strict=True):
        assert np.array_equal(np.sort(after.positions, 0), np.sort(before.positions, 0))
