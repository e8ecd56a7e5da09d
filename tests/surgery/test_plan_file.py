"""A plan as a file: what is read back is the plan, and what cannot be one is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuts import cut_to, drawn_masks, masks_without
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS
from text_models import perceptron, two_heads

from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.plan_file import added, channels_of, compose, dumps, loads
from onnxprune.types import Axis, Plan


def plan(size: int = 6, **keep: Sequence[int]) -> Plan:
    """A plan for the first axis of tensors of `size` rows."""
    found = {Axis(name, 0): np.array(at, np.int64) for name, at in keep.items()}
    return Plan(found, dict.fromkeys(found, size))


def same(a: Plan, b: Plan) -> bool:
    kept = (np.array_equal(a.keep[axis], b.keep[axis]) for axis in a.keep)
    return a.keep.keys() == b.keep.keys() and dict(a.size) == dict(b.size) and all(kept)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.json"


@pytest.mark.parametrize("name", ["residual_spine", "spatial_flatten", "llama"])
def test_a_plan_that_is_read_back_is_the_plan(name: str, file: Path) -> None:
    """Of stored axes all, of activations none: they follow from the groups."""
    analysis = analyze(NETWORKS[name]())
    made = plan_of(analysis.groups, drawn_masks(analysis))
    file.write_text(dumps(made, analysis.stored, "abc"))
    read, digest, *_ = loads(file)
    stored = {axis: at for axis, at in made.keep.items() if axis.tensor in analysis.stored}
    assert digest == "abc" and stored and len(stored) < len(made.keep)
    assert same(read, Plan(stored, {axis: made.size[axis] for axis in stored}))


@pytest.mark.parametrize("name", ["residual_spine", "spatial_flatten"])
def test_a_plan_of_stored_axes_keeps_the_channels_that_it_was_made_from(
    name: str, file: Path
) -> None:
    analysis = analyze(NETWORKS[name]())
    kept = drawn_masks(analysis)
    file.write_text(dumps(plan_of(analysis.groups, kept), analysis.stored, ""))
    groups, found = channels_of(loads(file)[0], analysis.groups, analysis.stored)
    assert all(map(np.array_equal, found, kept))
    assert all(a is b for a, b in zip(groups, analysis.groups, strict=True))


def test_heads_that_chose_for_themselves_are_arranged_to_keep_their_columns() -> None:
    """Head 0 keeps columns 0 and 2, head 1 columns 1 and 2: two channels of three are left."""
    analysis = analyze(two_heads())
    keep = np.array([0, 2, 4, 5])
    asked = Plan({Axis("a", 1): keep, Axis("c", 0): keep}, {Axis("a", 1): 6, Axis("c", 0): 6})
    groups, (width, heads) = channels_of(asked, analysis.groups, analysis.stored)
    assert width.tolist() == [True, True, False] and heads.all()
    assert groups[0].sites[0].positions[:2].tolist() == [[0, 4], [2, 5]]
    stage = cut_to(analysis.with_groups(groups), [width, heads])
    assert stage.proof.passed
    assert stage.plan.keep[Axis("a", 1)].tolist() == keep.tolist()


def axis(**changes: Any) -> dict[str, Any]:
    return {"tensor": "a", "axis": 0, "size": 4, "keep": [0, 2], **changes}


def content(*axes: dict[str, Any], **changes: Any) -> str:
    return json.dumps({"version": 1, "model_sha256": "", "axes": list(axes), **changes})


UNREADABLE = [
    (content(version=2), "plan version 2, this tool reads 1"),
    (content(axis(keep=[2, 1])), "tensor 'a' axis 0: keep must be ascending positions below 4"),
    (content(axis(keep=[1, 1])), "keep must be ascending"),
    (content(axis(keep=[-1, 2])), "keep must be ascending"),
    (content(axis(keep=[0, 8])), "or twice as many where zeros are added"),
    (content({"tensor": "a"}), "not a plan file, it lacks 'axis'"),
    (content(axis(keep="all")), "not a plan file (invalid literal"),
    ('{"version": 1}', "not a plan file, it lacks 'axes'"),
    ("[1, 2]", "not a plan file (an entry of another kind)"),
    ("no json", "not a plan file (Expecting value"),
]


@pytest.mark.parametrize(("text", "message"), UNREADABLE, ids=[m for _, m in UNREADABLE])
def test_what_is_no_plan_is_refused(text: str, message: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(InputError) as error:
        loads(file)
    assert str(error.value).startswith(f"{file}: ") and message in str(error.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(InputError, match=r"plan\.json: cannot be read: No such file"):
        loads(file)


MISFITS: list[tuple[Callable[[Analysis], Plan], str]] = [
    (lambda _: plan(4, nothing=[0]), "the plan names 'nothing' axis 0; the model has none"),
    (lambda _: Plan({Axis("b", 1): np.arange(2)}, {Axis("b", 1): 4}), "'b' axis 1; the model has"),
    (lambda _: plan(9, a=[0]), "expects 'a' axis 0 to have 9 positions; the model has 4"),
    (lambda _: plan(2, d=[0]), "the plan cuts 'd' axis 0 where this model cannot be cut"),
    (lambda _: Plan(plan(4, a=[0, 1], b=[0, 2]).keep, plan(4, a=[], b=[]).size),
     "where this model cannot be cut"),  # a channel cannot go on one axis of its group alone
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), MISFITS, ids=[m for _, m in MISFITS])
def test_a_plan_that_does_not_fit_the_model_is_refused(
    make: Callable[[Analysis], Plan], message: str
) -> None:
    analysis = analyze(perceptron())
    with pytest.raises(InputError, match=message):
        channels_of(make(analysis), analysis.groups, analysis.stored)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 9), min_size=1), st.data())
def test_two_plans_in_one_keep_what_both_keep(first: set[int], data: st.DataObject) -> None:
    a = plan(10, w=sorted(first))
    second = data.draw(st.sets(st.integers(0, len(first) - 1), min_size=1))
    b = Plan(plan(w=sorted(second), v=[1]).keep, {Axis("w", 0): len(first), Axis("v", 0): 6})
    both = compose(a, b)
    rows = np.arange(10) * 10
    assert np.array_equal(rows[both.keep[Axis("w", 0)]], rows[sorted(first)][sorted(second)])
    assert both.size == {Axis("w", 0): 10, Axis("v", 0): 6}
    assert both.keep[Axis("v", 0)].tolist() == [1]


def test_a_plan_may_add_zeros_where_a_group_can_be_wider() -> None:
    """Positions 4 and 5 of four channels: the group first gets six, the plan is for those."""
    analysis = analyze(perceptron())
    wider = Plan(
        {a: np.arange(6) for a in (Axis("a", 0), Axis("b", 0), Axis("c", 1))},
        dict.fromkeys((Axis("a", 0), Axis("b", 0), Axis("c", 1)), 4),
    )
    widths, left = added(wider, analysis.groups)
    assert widths == {0: 6} and set(left.size.values()) == {6} and not left.beyond
    nothing = added(plan_of(analysis.groups, masks_without(analysis, a=[1])), analysis.groups)
    assert nothing[0] == {}
    with pytest.raises(InputError, match="the plan adds positions to 'd' axis 0; none fit"):
        added(plan(2, d=[0, 1, 2]), analysis.groups)
