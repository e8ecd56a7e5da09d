"""Operators that only rename positions: one function explains every reshape.

Both shapes are cut into the same factors: (6, 4) → (3, 8) has factors 3, 2, 4, since 6 = 3·2
and 8 = 2·4. A factor f occurs in one axis of either side, and position (o, f, i) of an axis that
is outer × f × inner belongs to channel f. One factor at most can carry channels through an axis;
which one is a `Choice`. So Flatten keeps channels as blocks, splitting into heads or groups
keeps them as rows or columns, and a shuffle interleaves them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from onnxprune.ops import reshape_gradient
from onnxprune.ops.constants import Numbers, constant, content, filled, followed
from onnxprune.ops.facets import COPIES, DECIDING, FILLS, MOVES, SIZES, mark, state
from onnxprune.ops.gradients import FLAT, gradient
from onnxprune.ops.moments import moments, turned_to_first
from onnxprune.ops.moments_places import moved
from onnxprune.ops.registry import by_key, couples, free, same, shrinks, stored_entries
from onnxprune.types import (
    Axis,
    Choice,
    Coupling,
    Dim,
    Edit,
    Floats,
    Free,
    Ints,
    Kept,
    Node,
    Option,
    Tensor,
)


@couples("Transpose")
def transpose(node: Node) -> Iterator[Coupling]:
    """Axis perm[j] becomes axis j."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None:
        return
    perm = node.attrs.get("perm") or range(x.rank)[::-1]
    for j, i in enumerate(perm):
        yield from same(x, i, y, j)


@couples("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(node: Node) -> Iterator[Choice]:
    """Row-major order stays; see the module's docstring. Outer factors come first."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.shape is None or y.shape is None:
        return
    options = {}
    for f, i, j, outer_x, outer_y in _factors(x.shape, y.shape):
        n, m = x.size(i) or 0, y.size(j) or 0
        before = _Part(x.at(i), n, n // outer_x // f)
        options[i, j] = f, _factor(f, before, _Part(y.at(j), m, m // outer_y // f))
    for f, i, j, inner_x, inner_y in _factors(x.shape[::-1], y.shape[::-1]):
        i, j = x.rank - 1 - i, y.rank - 1 - j
        n, m = x.size(i) or 0, y.size(j) or 0
        options[i, j] = f, _factor(f, _Part(x.at(i), n, inner_x), _Part(y.at(j), m, inner_y))
    if options:
        outer_first = tuple(Option((options[at][1],), options[at][0]) for at in sorted(options))
        yield Choice(outer_first, "another part of this axis carries the channels")


def _factors(xs: Sequence[Dim], ys: Sequence[Dim]) -> Iterator[tuple[int, int, int, int, int]]:
    """Common factors from the left, as far as they line up.

    Each is (f, axis of xs, axis of ys, and what was taken from either axis before it).
    """
    i = j = 0
    rest_x: Dim = 1
    rest_y: Dim = 1
    while True:
        while rest_x == 1 and i < len(xs):
            rest_x, i, done_x = xs[i], i + 1, 1
        while rest_y == 1 and j < len(ys):
            rest_y, j, done_y = ys[j], j + 1, 1
        if isinstance(rest_x, str) or isinstance(rest_y, str):
            if rest_x != rest_y:
                return
            rest_x = rest_y = 1
            continue
        f = min(rest_x, rest_y)
        if f <= 1 or rest_x % f or rest_y % f:
            return
        yield f, i - 1, j - 1, done_x, done_y
        rest_x, rest_y, done_x, done_y = rest_x // f, rest_y // f, done_x * f, done_y * f


class _Part(NamedTuple):
    """An axis of `size` positions that holds a factor, with `inner` positions inside it."""

    axis: Axis
    size: int
    inner: int

    def key(self, f: int) -> Ints:
        """(size,) the channel of each position, of `f` channels."""
        return np.arange(self.size) // self.inner % f


def _factor(f: int, x: _Part, y: _Part) -> Coupling:
    """Couple the channels of the factor `f` on both sides."""
    if x.size == y.size == f:
        return Coupling(x.axis, y.axis)
    return by_key(x.axis, x.key(f), y.axis, y.key(f))


@shrinks("Reshape")
def shrink_reshape(node: Node, kept: Kept) -> Edit:
    """Pruned sizes of the result are written out; the others stay, stored or computed."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    new = [
        len(kept(y, axis))
        if y.size(axis) is not None and _moved(entry, axis, x, y, kept)
        else entry
        for axis, entry in enumerate(stored_entries(node.inputs[1], y.rank))
    ]
    if new.count(None) == 1 and -1 not in new:
        new[new.index(None)] = -1
    return Edit(inputs={1: tuple(new)})


def _moved(entry: int | None, axis: int, x: Tensor, y: Tensor, kept: Kept) -> bool:
    """Whether an entry no longer says what remains of the result's axis.

    -1 always does; 0 copies the size of the data's axis, which may be pruned for itself.
    """
    if y.size(axis) is None or entry == -1:
        return False
    pruned = len(kept(y, axis)) != y.size(axis)
    return pruned or (entry == 0 and len(kept(x, axis)) != x.size(axis))


@shrinks("Squeeze")
def shrink_squeeze(node: Node, kept: Kept) -> Edit:
    """Without axes it drops all of size 1: they are named before pruning makes more of them."""
    x = node.inputs[0]
    assert x is not None
    if "axes" in node.attrs or node.input(1) is not None:
        return Edit()
    axes = tuple(axis for axis in range(x.rank) if x.size(axis) == 1)
    if all(len(kept(x, axis)) != 1 for axis in range(x.rank) if axis not in axes):
        return Edit()
    return Edit(attrs={"axes": axes}) if node.opset < 13 else Edit(inputs={1: axes})


@couples("Shape", "Size")
def shape(node: Node) -> Iterator[Free]:
    """Reads sizes; where they are known, the graph goes on computing with the original ones."""
    entries = node.outputs[0].ints()
    if entries is not None and (node.op == "Shape" or None not in entries):
        yield from free(node.inputs[0])


@shrinks("Shape", "Size")
def shrink_shape(node: Node, kept: Kept) -> Edit:
    """Report the original sizes: what is computed from them stays as it was.

    Operators whose own widths changed get theirs written into their shape input.
    """
    y = node.outputs[0]
    entries = y.ints()
    return Edit(outputs={0: entries}) if entries is not None else Edit()


@couples("Constant")
def held(node: Node) -> Iterator[Free]:
    """What it holds is cut like any stored tensor."""
    yield from free(node.outputs[0])


@couples("OptionalHasElement")
def has_element(node: Node) -> Iterator[Free]:
    """Whether there is a tensor at all."""
    yield from free(node.inputs[0])


@couples("ConstantOfShape")
def constant_of_shape(node: Node) -> Iterator[Free]:
    """Every position holds the same value."""
    yield from free(node.outputs[0])


@couples("Expand")
def expand(node: Node) -> Iterator[Coupling | Free]:
    """An axis of size 1 is repeated: its copies may go one by one."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.shape is None:
        return
    for j in range(y.rank):
        i = j - y.rank + x.rank
        if i < 0 or x.shape[i] == 1:
            if y.size(j) is not None:
                yield Free(y.at(j))
        else:
            yield from same(x, i, y, j)


@shrinks("ConstantOfShape", "Expand")
def shrink_fill(node: Node, kept: Kept) -> Edit:
    """The shape input holds the widths."""
    y, index = node.outputs[0], 0 if node.op == "ConstantOfShape" else 1
    entries = stored_entries(node.inputs[index], y.rank)
    offset = y.rank - len(entries)  # Expand aligns its shape at the end
    new = tuple(
        e
        if e == 1 or y.size(offset + k) in (None, len(kept(y, offset + k)))
        else len(kept(y, offset + k))
        for k, e in enumerate(entries)
    )
    return Edit(inputs={index: new})


@constant("ConstantOfShape")
def constant_filled(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """The number that is filled in."""
    return filled(node.outputs[0], np.asarray(node.attrs.get("value", np.float32(0))))


@constant("Expand")
def constant_expanded(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """One stored number everywhere; else what each position holds."""
    x = node.input(0)
    if x is not None:
        yield from filled(node.outputs[0], content(x, numbers.read))
        if not all(t is None or t.constant for t in node.inputs):
            yield from followed()(node, numbers)


state(COPIES, "permutes", "Transpose")
state(COPIES, "reshapes", "Flatten", "Reshape", "Squeeze", "Unsqueeze")
state(COPIES, "repeats", "Expand")
mark(FILLS, "ConstantOfShape", "Expand")
mark(MOVES, "Constant")
mark(SIZES, "Shape", "Size")
state(DECIDING, (), "Reshape", "Squeeze", "Unsqueeze")
constant("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")(followed())
moments("Flatten", "Reshape", "Squeeze")(moved)
moments("Transpose")(turned_to_first)
mark(FLAT, "ConstantOfShape", "Shape", "Size")
gradient("Flatten", "Reshape", "Squeeze", "Unsqueeze")(reshape_gradient.reshape)
gradient("Transpose")(reshape_gradient.transpose)
gradient("Expand")(reshape_gradient.expand)
