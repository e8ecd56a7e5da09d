"""From channels that stay to positions that stay, by hand."""

import numpy as np
import pytest
from cuts import masks_without
from text_models import perceptron, two_heads

from onnxprune.groups.analysis import analyze
from onnxprune.groups.head_units import reordered
from onnxprune.surgery.plan import kept_channels, plan_of
from onnxprune.types import Axis


@pytest.mark.parametrize(
    ("width", "kept"), [(0, []), (1, [2]), (2, [1, 2]), (3, [1, 2, 4]), (5, [0, 1, 2, 3, 4])]
)
def test_the_best_channels_stay_and_of_equal_ones_the_earlier(width: int, kept: list[int]) -> None:
    scores = np.array([1.0, 3.0, 5.0, 1.0, 3.0])
    assert np.flatnonzero(kept_channels(scores, width)).tolist() == kept
    assert np.flatnonzero(kept_channels(np.ones(4), 2)).tolist() == [0, 1]


def test_a_plan_names_every_axis_of_a_group_that_loses_channels() -> None:
    analysis = analyze(perceptron())
    plan = plan_of(analysis.groups, masks_without(analysis, a=[0, 2]))
    axes = [Axis("a", 0), Axis("b", 0), Axis("h", 1), Axis("r", 1), Axis("c", 1)]
    assert plan.keep.keys() == plan.size.keys() == set(axes)
    assert all(plan.keep[axis].tolist() == [1, 3] and plan.size[axis] == 4 for axis in axes)
    assert plan.dead(Axis("c", 1)).tolist() == [0, 2] and not plan.beyond and not plan.nominal


def test_a_group_that_stays_whole_is_in_no_plan() -> None:
    analysis = analyze(perceptron())
    assert not plan_of(analysis.groups, masks_without(analysis)).keep


def test_where_two_groups_cross_a_position_needs_both() -> None:
    """Column 1 of three and head 0 of two go: of six columns 3 and 5 stay."""
    analysis = analyze(two_heads())
    plan = plan_of(analysis.groups, masks_without(analysis, **{"a": [1], "a#2": [0]}))
    assert plan.keep[Axis("a", 1)].tolist() == [3, 5]
    assert plan.keep[Axis("c", 0)].tolist() == [3, 5]
    assert plan.keep[Axis("scale", 0)].tolist() == [1]
    assert plan.keep[Axis("s", 2)].tolist() == [0, 2]


def test_axes_where_heads_choose_for_themselves_are_marked() -> None:
    analysis = analyze(two_heads())
    both = plan_of(analysis.groups, masks_without(analysis, a=[1]))
    assert both.nominal == {Axis("s", 2), Axis("m", 2)}
    heads_only = plan_of(analysis.groups, masks_without(analysis, **{"a#2": [0]}))
    assert not heads_only.nominal


def test_there_is_one_mask_for_each_group() -> None:
    analysis = analyze(two_heads())
    with pytest.raises(ValueError, match="zip"):
        plan_of(analysis.groups, masks_without(analysis)[:1])


def test_heads_that_choose_for_themselves_are_told_apart() -> None:
    """Column 2 goes in head 0, column 0 in head 1."""
    analysis = analyze(two_heads())
    group = next(g for g in analysis.groups if g.heads == 2)
    mixed = reordered(group, np.array([[0, 2], [1, 1], [2, 0]]))
    analysis = analysis.with_groups(mixed if g is group else g for g in analysis.groups)
    plan = plan_of(analysis.groups, masks_without(analysis, **{group.name: [2]}))
    assert plan.keep[Axis("a", 1)].tolist() == [0, 1, 4, 5]
    heads, alive = plan.chosen[Axis("s", 2)]
    assert heads == 1 and alive.tolist() == [[True, True, False], [False, True, True]]
