"""The walker on nodes and rules made up here: what it joins, what it freezes, and why."""

import numpy as np
import pytest

from onnxprune.groups.dependency import (
    PREFERENCES,
    Constraints,
    Dependencies,
    Rules,
    dependencies,
    find_dependencies,
)
from onnxprune.ops.registry import by_key, free, same
from onnxprune.types import Axis, Choice, Coupling, Frozen, Node, Option, Tensor

X, Y, Z = Tensor("x", (2, 6)), Tensor("y", (2, 6)), Tensor("z", (6,))


def node(op: str, a: Tensor, b: Tensor, opset: int = 17) -> Node:
    return Node(f"a {op}", op, (a,), (b,), opset=opset)


def channels(found: Dependencies) -> list[tuple[int, list[str]]]:
    """How many channels each group has, and through which axes they run."""
    groups = found.groups(lambda axes: axes[0].tensor)
    return [(g.channels, sorted(str(axis) for axis, _ in g.axes())) for g in groups]


def why(found: Dependencies, axis: Axis) -> Frozen:
    (reason,) = found.blocked(axis)
    return reason


SAME: Rules = {"Same": lambda n: same(n.inputs[0], 1, n.outputs[0], 1)}


def test_axes_that_a_rule_joins_are_one_and_the_others_are_frozen() -> None:
    found = dependencies([node("Same", X, Y)], SAME)
    assert channels(found) == [(6, ["x[1]", "y[1]"])]
    assert (
        why(found, Axis("x", 0)).reason == "Same does not treat the positions of axis 0 one by one"
    )
    assert why(found, Axis("y", 0)).node == "a Same"


def test_joins_pass_through_all_nodes() -> None:
    rules: Rules = {**SAME, "Sum": lambda n: same(n.inputs[0], 1, n.outputs[0], 0)}
    assert channels(dependencies([node("Same", X, Y), node("Sum", Y, Z)], rules)) == [
        (6, ["x[1]", "y[1]", "z[0]"])
    ]


def test_positions_that_an_axis_does_not_have_freeze_it() -> None:
    """Models whose sizes do not fit are damaged; only a run tells."""
    couple = Coupling(Axis("x", 1), Axis("z", 0), np.arange(9), np.arange(9))
    found = dependencies([node("Fold", X, Z)], {"Fold": lambda n: [couple]})
    assert channels(found) == []
    assert why(found, Axis("z", 0)).reason == "sizes of x[1] and z[0] do not fit"


def test_positions_that_share_a_key_are_one_channel() -> None:
    rules: Rules = {
        "Fold": lambda n: [by_key(Axis("x", 1), np.arange(6) % 3, Axis("z", 0), np.arange(6) % 3)]
    }
    (group,) = dependencies([node("Fold", X, Z)], rules).groups(lambda axes: axes[0].tensor)
    assert group.channels == 3
    assert dict(group.axes())[Axis("x", 1)].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_what_no_rule_speaks_of_says_how_to_free_it() -> None:
    lacking = why(dependencies([node("Odd", X, Y)], {}), Axis("x", 1))
    assert (lacking.reason, lacking.node) == ("no rule for operator Odd", "a Odd")
    assert "register a rule with onnxprune.couples('Odd')" in lacking.hint
    barrier = Constraints(barriers={"Odd": "it draws random numbers"})
    found = dependencies([node("Odd", X, Y)], {}, barrier)
    assert why(found, Axis("x", 1)).reason == "Odd: it draws random numbers"
    old = why(dependencies([node("Same", X, Y, opset=6)], SAME), Axis("x", 1))
    assert old.reason == "opset 6 is older than 7" and "version_converter" in old.hint


def test_the_first_reason_counts() -> None:
    """The interface before the user, and both before what an operator says."""
    limits = Constraints(
        interface={Axis("x", 1): "it is an input"},
        excluded=[Frozen(Axis("x", 1), "excluded"), Frozen(Axis("y", 0), "excluded")],
    )
    found = dependencies([node("Same", X, Y)], SAME, limits)
    assert why(found, Axis("y", 1)).reason == "it is an input"
    assert why(found, Axis("y", 0)).reason == "excluded"
    assert channels(found) == []


@pytest.mark.parametrize("end", ["x", "y", "z"])
def test_what_is_frozen_at_one_end_is_frozen_at_the_other(end: str) -> None:
    rules: Rules = {**SAME, "Sum": lambda n: same(n.inputs[0], 1, n.outputs[0], 0)}
    limits = Constraints(interface={Axis(end, 0 if end == "z" else 1): "it is an end"})
    found = dependencies([node("Same", X, Y), node("Sum", Y, Z)], rules, limits)
    assert channels(found) == []
    for axis in (Axis("x", 1), Axis("y", 1), Axis("z", 0)):
        assert why(found, axis).reason == "it is an end"


def test_inexact_couplings_count_only_where_they_may() -> None:
    rules: Rules = {"Mean": lambda n: [Coupling(Axis("x", 1), Axis("y", 1), inexact="the mean")]}
    exact = dependencies([node("Mean", X, Y)], rules)
    assert channels(exact) == []
    frozen = why(exact, Axis("x", 1))
    assert frozen.reason == "removal changes the mean" and "--allow-inexact" in frozen.hint
    found = dependencies([node("Mean", X, Y)], rules, Constraints(inexact=True))
    assert channels(found) == [(6, ["x[1]", "y[1]"])]
    (group,) = found.groups(lambda axes: "x")
    assert group.inexact == "the mean"


SPLIT = Tensor("s", (2, 3))


def reshape(_node: Node) -> list[Choice]:
    """z (6) → s (2, 3): whole rows, or one column of every row; axis z can only be one of both."""
    rows = by_key(Axis("z", 0), np.arange(6) // 3, Axis("s", 0), np.arange(2))
    columns = by_key(Axis("z", 0), np.arange(6) % 3, Axis("s", 1), np.arange(3))
    options = Option((rows,), 2), Option((columns,), 3)
    return [Choice(options, "heads and width cannot both go")]


@pytest.mark.parametrize(
    ("preference", "expected"),
    [("outer", (2, "s[0]")), ("inner", (3, "s[1]")), ("wide", (3, "s[1]"))],
)
def test_a_choice_is_settled_by_preference(preference: str, expected: tuple[int, str]) -> None:
    found = dependencies([node("Reshape", Z, SPLIT)], {"Reshape": reshape}, None, preference)
    count, axis = expected
    assert channels(found) == [(count, [axis, "z[0]"])]
    (other,) = {Axis("s", 0), Axis("s", 1)} - {Axis("s", int(axis[2]))}
    left = why(found, other)
    assert left.reason == "heads and width cannot both go" and left.node == "a Reshape"


def test_an_option_with_a_frozen_axis_is_not_taken() -> None:
    limits = Constraints(interface={Axis("s", 1): "it is an output"})
    found = dependencies([node("Reshape", Z, SPLIT)], {"Reshape": reshape}, limits)
    assert channels(found) == [(2, ["s[0]", "z[0]"])]
    assert why(found, Axis("s", 1)).reason == "it is an output"


def test_every_way_to_settle_choices_gives_one_trace() -> None:
    nodes, rules = [node("Reshape", Z, SPLIT)], {"Reshape": reshape}
    assert set(PREFERENCES) == {"wide", "inner", "outer"}
    found = find_dependencies(nodes, rules, Constraints())
    assert [channels(trace) for trace in found] == [
        [(3, ["s[1]", "z[0]"])],
        [(2, ["s[0]", "z[0]"])],
    ]
    assert len(find_dependencies([node("Same", X, Y)], SAME, Constraints())) == 1


def test_sizes_that_vary_have_no_positions() -> None:
    varies = Tensor("v", ("N", 6))
    rules: Rules = {"Same": lambda n: [*same(n.inputs[0], 1, n.outputs[0], 1), *free(n.inputs[0])]}
    found = dependencies([node("Same", varies, Y)], rules)
    assert Axis("v", 0) not in found.root and channels(found) == [(6, ["v[1]", "y[1]"])]
