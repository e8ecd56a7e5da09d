"""Equal labels are one channel; channels that run through the same axes are one group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.groups.labels import Dependencies, components
from onnxprune.types import Axis, Frozen

W, B, V, OUT = Axis("w", 0), Axis("b", 0), Axis("v", 0), Axis("out", 1)
WHY = Frozen(OUT, "it is an output")


def by_hand(label: list[int], frozen: tuple[int, ...] = ()) -> Dependencies:
    """`w` (4) and `b` (4) are one axis, `v` has 2 positions and `out` 3."""
    return Dependencies(
        root={W: 0, B: 0, V: 2, OUT: 3},
        start={0: 0, 2: 4, 3: 6},
        size={0: 4, 2: 2, 3: 3},
        label=np.array(label),
        reason=dict.fromkeys(frozen, WHY),
        inexact={2: "the mean of v"},
    )


def first(axes: tuple[Axis, ...]) -> str | None:
    """Named after the first tensor; what only the output sees is no group."""
    return None if axes == (OUT,) else axes[0].tensor


def test_positions_reached_from_each_other_get_the_smallest_number() -> None:
    left, right = [np.array([5, 3]), np.array([1])], [np.array([3, 1]), np.array([4])]
    assert components(7, left, right).tolist() == [0, 1, 2, 1, 1, 1, 6]
    assert components(3, [], []).tolist() == [0, 1, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_components_are_those_of_a_search(pairs: list[tuple[int, int]]) -> None:
    ends = [np.array([pair[k] for pair in pairs], np.int64) for k in range(2)]
    found = components(20, [ends[0]], [ends[1]])
    expected = np.arange(20)
    for _ in range(20):  # slow and plain: pass the smaller number on until nothing changes
        for a, b in pairs:
            expected[[a, b]] = expected[[a, b]].min()
    assert found.tolist() == expected.tolist()


def test_channels_that_run_alike_are_one_group() -> None:
    """Two positions of w go with those of v, the other two with one of out each."""
    a, b = by_hand([0, 1, 2, 3, 0, 1, 2, 3, 8]).groups(first)
    assert (a.name, a.channels) == ("w", 2) and (b.name, b.channels) == ("w#2", 2)
    assert [(site.axes, site.positions.tolist()) for site in a.sites] == [
        ((W, B), [[0], [1]]),
        ((V,), [[0], [1]]),
    ]
    assert dict(b.axes())[OUT].tolist() == [[0], [1]]
    assert a.inexact == "the mean of v" and b.inexact == ""


def test_a_channel_may_lie_at_several_positions_of_an_axis() -> None:
    (group,) = by_hand([0, 1, 0, 1, 4, 5, 6, 7, 8], frozen=(4, 5)).groups(first)
    assert group.channels == 2 and group.sites[0].positions.tolist() == [[0, 2], [1, 3]]


def test_a_frozen_label_freezes_all_that_carry_it() -> None:
    found = by_hand([0, 1, 2, 3, 0, 5, 0, 7, 8], frozen=(0, 8))
    assert [g.channels for g in found.groups(first)] == [3, 1]
    assert found.blocked(W) == {WHY: 1} and found.blocked(OUT) == {WHY: 2}
    assert found.labels(V).tolist() == [0, 5]


def test_what_has_no_name_is_no_group() -> None:
    assert by_hand(list(range(9))).groups(lambda axes: None) == ()
    assert [g.name for g in by_hand(list(range(9))).groups(first)] == ["w", "v"]


@pytest.mark.parametrize("frozen", [(), (0,)])
def test_without_free_positions_there_is_no_group(frozen: tuple[int, ...]) -> None:
    found = by_hand([0] * 9, frozen).groups(first)
    assert len(found) == (not frozen)
