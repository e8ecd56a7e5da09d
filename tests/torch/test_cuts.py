"""Plans for stored tensors become cuts of entries; arrays are sliced as they say."""

import numpy as np
import pytest
from exported_networks import drawn

from onnxprune.errors import InputError
from onnxprune.torch.cuts import Cut, cuts_of, sliced
from onnxprune.torch.matching import Entries, find
from onnxprune.torch.origins import Match
from onnxprune.types import Axis, Ints, Plan

STATE = drawn(1, a__weight=(6, 4), b__weight=(3, 6))


def matches() -> dict[str, Match]:
    entries = Entries(STATE)
    found = {
        "val_1": find("val_1", np.ascontiguousarray(STATE["a.weight"].T), entries),
        "b.weight": find("b.weight", STATE["b.weight"], entries),
    }
    return {name: match for name, match in found.items() if match is not None}


def plan(**keep: list[int]) -> Plan:
    sizes = {"val_1": (4, 6), "b.weight": (3, 6)}
    axes = {("val_1", 1): "made", ("b.weight", 1): "read", ("val_1", 0): "given"}
    found = {Axis(*axis): np.array(keep[word]) for axis, word in axes.items() if word in keep}
    return Plan(found, {axis: sizes[axis.tensor][axis.axis] for axis in found})


def kept(cut: Cut) -> dict[int, list[int]]:
    return {axis: at.tolist() for axis, at in cut.keep.items()}


def test_positions_follow_the_numbers() -> None:
    found = cuts_of(plan(made=[0, 2, 5], read=[0, 2, 5]), matches(), STATE)
    assert kept(found.entries["a.weight"]) == {0: [0, 2, 5]}
    assert kept(found.entries["b.weight"]) == {1: [0, 2, 5]}
    assert not found.unknown and not found.folded


def test_what_no_entry_explains_is_named_where_it_should_be_known() -> None:
    none: dict[str, Match] = {}
    assert cuts_of(plan(made=[0]), none, STATE, shown={"val_1"}).unknown == ("val_1[1]",)
    assert cuts_of(plan(made=[0]), none, STATE).unknown == ()


def test_two_forms_of_one_entry_are_refused() -> None:
    twice = matches()
    twice["b.weight"] = twice["val_1"]
    wanted = Plan(
        {Axis("val_1", 1): np.arange(3), Axis("b.weight", 1): np.arange(4)},
        {Axis("val_1", 1): 6, Axis("b.weight", 1): 6},
    )
    with pytest.raises(InputError, match=r"'a\.weight' axis 0 position 3 .*uses it twice.*Exclude"):
        cuts_of(wanted, twice, STATE)


def test_positions_that_stay_as_zeros_count_where_all_stay() -> None:
    silent = {Axis("val_1", 1): np.array([4, 5])}
    found = cuts_of(plan(), matches(), STATE, silent)
    values = sliced(STATE["a.weight"], found.entries["a.weight"])
    assert values.shape == (6, 4) and not values[4:].any() and values[:4].all()


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (Cut({0: np.array([1, 3])}), STATE["a.weight"][[1, 3]]),
        (Cut({0: np.array([1, 3]), 1: np.array([2])}), STATE["a.weight"][[1, 3]][:, [2]]),
        (Cut(times=2.0), STATE["a.weight"] * 2),
        (Cut(rows=np.arange(6.0)), STATE["a.weight"] * np.arange(6)[:, None]),
    ],
    ids=["an axis", "two axes", "a factor", "rows"],
)  # fmt: skip
def test_slices(cut: Cut, expected: Ints) -> None:
    found = sliced(STATE["a.weight"], cut)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32 and not np.shares_memory(found, STATE["a.weight"])


def test_what_divides_keeps_its_numbers() -> None:
    cut = Cut({0: np.array([0, 1])}, {0: np.array([1])})
    values = np.array([2, 3, 4], np.float32)
    assert sliced(values, cut).tolist() == [2, 0]
    assert sliced(values, cut, divides=True).tolist() == [2, 3]
