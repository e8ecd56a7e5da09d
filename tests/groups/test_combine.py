"""Readings of one model put together: what crosses like a grid is cut side by side."""

import numpy as np
from oracle import check_model
from text_models import text_model, two_heads

from onnxprune.groups.analysis import analyze
from onnxprune.groups.combine import Crossing, combine
from onnxprune.groups.labels import Dependencies
from onnxprune.types import Axis

W, S = Axis("w", 0), Axis("s", 0)


def reading(labels: list[int]) -> Dependencies:
    """One trace in which position k of `w` carries `labels[k]`, and `s` labels of its own."""
    n = len(labels)
    label = np.array([*labels, *range(n, 2 * n)])
    return Dependencies({W: 0, S: 1}, {0: 0, 1: n}, {0: n, 1: n}, label, {}, {})


def first(axes: tuple[Axis, ...]) -> str | None:
    return "w" if W in axes else None


ROWS, COLUMNS = [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]


def test_one_reading_is_taken_as_it_is() -> None:
    (group,), crossings = combine([reading(ROWS)], first, {})
    assert (group.name, group.channels, crossings) == ("w", 2, ())


def test_rows_and_columns_cross_once_in_every_cell() -> None:
    (rows, columns), crossings = combine([reading(ROWS), reading(COLUMNS)], first, {"w": None})
    assert (rows.name, rows.channels) == ("w", 2) and (columns.name, columns.channels) == ("w#2", 3)
    assert crossings == (Crossing(0, 1, W, 1),)


def test_a_group_that_is_no_grid_with_an_accepted_one_is_left_out() -> None:
    """A channel of three positions meets one row twice and the other once."""
    uneven = [0, 0, 1, 0, 1, 1]
    (rows,), crossings = combine([reading(ROWS), reading(uneven)], first, {})
    assert rows.channels == 2 and crossings == ()


def test_no_more_than_two_groups_meet_at_a_position() -> None:
    """The three digits of a binary number cross each other like grids, but not all at once."""
    digits = [[k // 2**d % 2 for k in range(8)] for d in range(3)]
    groups, crossings = combine([reading(digit) for digit in digits], first, {"w": None})
    assert [group.channels for group in groups] == [2, 2]
    assert crossings == (Crossing(0, 1, W, 2),)


def test_a_group_without_a_choice_is_in_nobody_s_way() -> None:
    """A single channel is dropped where it meets a group with several, and stays elsewhere."""
    groups, _ = combine([reading([0] * 6), reading(ROWS)], first, {})
    assert [group.channels for group in groups] == [2]
    groups, _ = combine([reading([0] * 6), reading([0] * 6)], first, {})
    assert [group.channels for group in groups] == [1]


def test_each_head_chooses_its_own_columns_where_nothing_ties_them() -> None:
    width, heads = analyze(two_heads()).groups
    assert (width.heads, width.channels, heads.heads, heads.channels) == (2, 3, 1, 2)
    by_axis = {axis: (site.positions.tolist(), site.nominal) for site in width.sites
               for axis in site.axes}  # fmt: skip
    assert by_axis[Axis("a", 1)] == ([[0, 3], [1, 4], [2, 5]], False)
    assert by_axis[Axis("s", 2)] == ([[0], [1], [2]], True)  # column 0 of one head, of another …


def test_a_weight_for_each_column_ties_the_columns_of_all_heads() -> None:
    text = """
    net (float[1, 4] x) => (float[1, 5] y) {
        h = MatMul (x, a)
        s = Reshape (h, split)
        m = Mul (s, scale)
        t = Reshape (m, join)
        y = MatMul (t, c)
    }
    """
    shapes = {"split": np.array([1, 2, 3]), "join": np.array([1, 6])}
    width, heads = analyze(text_model(text, a=(4, 6), c=(6, 5), scale=(2, 3), **shapes)).groups
    assert (width.channels, heads.channels) == (3, 2)
    assert width.heads == heads.heads == 1 and not any(site.nominal for site in width.sites)


def test_a_sum_over_heads_ties_their_columns() -> None:
    """Behind it column 0 of one head is one number with column 0 of the other."""
    text = """
    net (float[1, 4] x) => (float[1, 1] y) {
        h = MatMul (x, a)
        s = Reshape (h, split)
        r = ReduceL1 <axes = [1], keepdims = 1> (s)
        t = Tanh (r)
        u = Transpose <perm = [0, 2, 1]> (t)
        z = MatMul (t, u)
        y = Reshape (z, join)
    }
    """
    shapes = {"split": np.array([1, 2, 3]), "join": np.array([1, 1])}
    model = text_model(text, a=(4, 6), **shapes)
    width, heads = analyze(model).groups
    assert (width.channels, width.heads, heads.channels, heads.heads) == (3, 1, 2, 1)
    assert not any(site.nominal for site in width.sites)
    assert check_model(model) == 5
