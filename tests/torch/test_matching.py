"""What a tensor is made of is found by its values, and its numbers find their way back."""

from typing import Any

import numpy as np
import pytest
from exported_networks import drawn
from numpy.typing import NDArray

from onnxprune.torch.matching import Entries, find
from onnxprune.torch.origins import Match

STATE = drawn(
    3, conv__weight=(8, 4, 3, 3), fc__weight=(6, 8), q__weight=(4, 6), k__weight=(4, 6),
    table__weight=(9, 6), square__weight=(5, 5), b1=(12,), b2=(12,), narrow=(6, 1),
)  # fmt: skip
Q, K = STATE["q.weight"], STATE["k.weight"]
#: What exporters write, by what they did; the entry, axis by axis, is where each axis comes from.
TENSORS: dict[str, tuple[NDArray[Any], list[set[tuple[str, int]]]]] = {
    "transposed": (STATE["fc.weight"].T, [{("fc.weight", 1)}, {("fc.weight", 0)}]),
    "square": (STATE["square.weight"].T, [{("square.weight", 1)}, {("square.weight", 0)}]),
    "permuted": (
        STATE["conv.weight"].transpose(2, 3, 1, 0),
        [{("conv.weight", a)} for a in (2, 3, 1, 0)],
    ),
    "joined": (
        np.concatenate([K, Q]),
        [{("q.weight", 0), ("k.weight", 0)}, {("q.weight", 1), ("k.weight", 1)}],
    ),
    "joined and transposed": (
        np.concatenate([Q, K]).T,
        [{("q.weight", 1), ("k.weight", 1)}, {("q.weight", 0), ("k.weight", 0)}],
    ),
    "rows": (
        STATE["table.weight"][None, 2:7],
        [set(), {("table.weight", 0)}, {("table.weight", 1)}],
    ),
    "vectors": (
        np.concatenate([STATE["b1"].reshape(4, 3)[[0, 3, 1, 2]].ravel(), STATE["b2"]])[None],
        [set(), {("b1", 0), ("b2", 0)}],
    ),
    "scaled": (
        STATE["conv.weight"] * np.arange(1, 9, dtype=np.float32)[:, None, None, None],
        [{("conv.weight", a)} for a in range(4)],
    ),
    "with axes of one": (STATE["b1"][:, None, None], [{("b1", 0)}, set(), set()]),
}  # fmt: skip


def sources(match: Match) -> list[set[tuple[str, int]]]:
    return [{(origin.entry, origin.axis) for origin in axis} for axis in match.axes]


def cell(match: Match, at: tuple[int, ...]) -> set[float]:
    """The numbers of the entries at the positions that a place of the tensor comes from."""
    found: dict[str, dict[int, int]] = {}
    for axis, position in enumerate(at):
        for origin in match.axes[axis]:
            if origin.at[position] >= 0:
                found.setdefault(origin.entry, {})[origin.axis] = int(origin.at[position])
    values = set()
    for name, where in found.items():
        own = STATE[name]
        if len(where) == sum(size > 1 for size in own.shape):
            values.add(float(own[tuple(where.get(a, 0) for a in range(own.ndim))]))
    return values


@pytest.mark.parametrize("name", TENSORS)
def test_axes_come_from_where_the_numbers_do(name: str) -> None:
    values, expected = TENSORS[name]
    match = find("val_1", np.ascontiguousarray(values), Entries(STATE))
    assert match is not None
    assert sources(match) == expected
    if match.scale is None:
        for at in np.ndindex(values.shape):
            assert float(values[at]) in cell(match, at), at


@pytest.mark.parametrize("name", TENSORS)
def test_numbers_find_their_way_back(name: str) -> None:
    """Every number that the tensor holds is changed in the entries, and no other one."""
    values = np.ascontiguousarray(TENSORS[name][0])
    match = find("val_1", values, Entries(STATE))
    assert match is not None
    entries = {part.entry: STATE[part.entry] for part in match.parts}
    for part in match.parts:
        entries[part.entry] = part.restored(values + 1, entries[part.entry])
    if match.scale is None:
        changed = {n: np.isin(STATE[n], values) for n in entries}
        assert all(mask.any() for mask in changed.values())
        for n, mask in changed.items():
            np.testing.assert_array_equal(entries[n], np.where(mask, STATE[n] + 1, STATE[n]))
    else:
        np.testing.assert_array_equal(entries["conv.weight"], values + 1)


def test_the_scale_of_a_folded_layer_is_found() -> None:
    match = find("onnx::Conv_1", TENSORS["scaled"][0], Entries(STATE))
    assert match is not None and match.along == 0
    assert match.scale is not None
    np.testing.assert_allclose(match.scale, np.arange(1, 9), rtol=1e-6)


def test_a_name_counts_where_values_say_nothing() -> None:
    """As in another checkpoint of the same network."""
    other = drawn(4, fc__weight=(6, 8))["fc.weight"]
    match = find("fc.weight", other, Entries(STATE))
    assert match is not None and sources(match) == [{("fc.weight", 0)}, {("fc.weight", 1)}]


def test_values_count_more_than_a_name() -> None:
    """A square weight that the exporter transposed under its own name."""
    match = find("square.weight", np.ascontiguousarray(STATE["square.weight"].T), Entries(STATE))
    assert match is not None and sources(match) == TENSORS["square"][1]


@pytest.mark.parametrize(
    "values",
    [
        drawn(9, other=(6, 8))["other"],
        np.arange(12).reshape(3, 4),
        np.ones(1, np.float32),
        STATE["fc.weight"] + np.float32(0.01),
    ],
    ids=["other numbers", "integers", "one number", "moved a little"],
)
def test_what_is_made_of_nothing_known_has_no_match(values: NDArray[Any]) -> None:
    assert find("val_1", values, Entries(STATE)) is None


def test_equal_rows_keep_their_order() -> None:
    """Rows of zeros, such as those of padding, are taken one after the other."""
    state = {"w": STATE["table.weight"].copy()}
    state["w"][3:6] = 0
    match = find("val_1", np.stack([state["w"]] * 2), Entries(state))
    assert match is not None
    np.testing.assert_array_equal(match.axes[1][0].at, np.arange(9))
