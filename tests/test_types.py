"""The frozen values: sizes that may vary, entries that are known, positions that are gone."""

import dataclasses

import numpy as np
import pytest

from onnxprune.types import (
    Axis,
    Body,
    Choice,
    Coupling,
    Group,
    Kernel,
    Mask,
    Node,
    Option,
    Plan,
    Site,
    Tensor,
)

A, B, C = (Tensor(name, ("1|2", 3)) for name in "abc")


def test_sizes_that_vary_or_are_not_there_are_none() -> None:
    tensor = Tensor("t", ("1|2", 3, 4))
    assert [tensor.size(k) for k in (0, 1, 2, 3)] == [None, 3, 4, None]
    assert [tensor.size(k) for k in (-1, -2, -3, -4)] == [4, 3, None, None]
    assert tensor.rank == 3 and tensor.at(-1) == Axis("t", 2) and str(tensor.at(-1)) == "t[2]"
    unknown = Tensor("u")
    assert unknown.rank == -1 and unknown.size(0) is None
    assert Tensor("number", ()).rank == 0


def test_entries_that_may_vary_are_none() -> None:
    value = np.array([5, 6, 7])
    assert Tensor("t", (3,), value=value).ints() == (5, 6, 7)
    assert Tensor("t", (3,), value=value, known=value != 6).ints() == (5, None, 7)
    assert Tensor("t", (), value=np.array(5)).ints() == (5,)
    assert Tensor("t", (), value=np.array(5), known=np.array(False)).ints() == (None,)
    assert Tensor("t", (3,)).ints() is None


def test_a_node_touches_its_inputs_results_and_those_of_its_bodies() -> None:
    node = Node("n", "If", (A, None), (B,), captured=(C,), bodies=(Body("t", (A,), (C,)),))
    assert list(node.tensors) == [A, B, C, A, C]
    assert node.input(0) is A and node.input(1) is None and node.input(2) is None


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        A.name = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Axis("t", 0).axis = 1  # type: ignore[misc]


def test_the_data_of_a_kernel() -> None:
    """By default the other operand; the node's own result where it is recurrent."""
    node = Node("n", "MatMul", (A, B, C), (Tensor("y"),))
    assert Kernel(1, 1, 0).operand(node) is A and Kernel(0, 0, 1).operand(node) is B
    assert Kernel(1, 1, 0, data=2).operand(node) is C
    assert Kernel(2, 1, 2, recurrent=True).operand(node) is node.outputs[0]
    assert Kernel(1, 0, 1, channel=2).reads == 2 and Kernel(1, 0, 1, channel=2, source=3).reads == 3


def test_axes_of_options_and_groups() -> None:
    a, b, c = Axis("a", 0), Axis("b", 1), Axis("c", 0)
    option = Option((Coupling(a, b), Coupling(b, c)), width=4)
    assert option.axes == {a, b, c} and Choice((option,), "heads").options[0] is option
    first, second = np.arange(4)[:, None], np.arange(8).reshape(4, 2)
    group = Group("w", 4, (Site((a, b), first, 4), Site((c,), second, 8)))
    assert [(axis, at.shape) for axis, at in group.axes()] == [
        (a, (4, 1)),
        (b, (4, 1)),
        (c, (4, 2)),
    ]


def test_positions_that_are_gone_and_positions_that_are_added() -> None:
    a, b = Axis("a", 0), Axis("b", 1)
    plan = Plan({a: np.array([0, 2]), b: np.array([1, 4])}, {a: 4, b: 4})
    assert plan.beyond == {b}
    assert plan.dead(a).tolist() == [1, 3]


def test_masks_of_one_axis_have_one_input() -> None:
    axis = Axis("a", 1)
    assert Mask("m", 0, axis, 3, 8).feed == Mask("n", 1, axis, 3, 8).feed == "alive/a/1"
    assert Mask("m", 0, Axis("a", 2), 3, 8).feed != Mask("m", 0, axis, 3, 8).feed
