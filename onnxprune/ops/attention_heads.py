"""Heads × width: what attention can lose, wherever its operands keep the two factors.

An operand holds `heads` × `width` positions either on one axis, row-major and perhaps behind other
operands (a packed projection), or on two axes of their own. Attention is y = softmax(s·q kᵀ) v in
every head. So four families of channels are exact alone, outermost first:

- a head of k and v together with every head of q and y that reads it;
- where several heads of q read one of k and v: the same member of each such set, in q and y;
- a column of q and k, the same in every head: one addend of the product q·k;
- a column of v and y, the same in every head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnxprune.ops.registry import by_key
from onnxprune.types import Axis, Choice, Coupling, Ints, Kept, Option, Tensor

__all__ = ["Layout", "Operand", "Slots", "choice", "left", "operand", "scores", "tie"]

REASON = "other heads or columns of this axis carry the channels"


class Slots(NamedTuple):
    """Positions `at` of an axis of `size`, and the channel that each belongs to; both (n,)."""

    axis: Axis
    size: int
    at: Ints
    key: Ints


class Operand(NamedTuple):
    """`heads` × `width` on two axes of a tensor, or on one (`head` = `column`) from `start` on."""

    tensor: Tensor
    heads: int
    width: int
    head: int
    column: int
    start: int = 0

    def slots(self, of_head: Ints | None = None, of_column: Ints | None = None) -> Slots:
        """Channels given by head, (heads,) keys, or by column, (width,) keys."""
        flat = self.head == self.column
        axis = self.head if of_head is not None else self.column
        if of_head is not None:
            key = np.repeat(of_head, self.width) if flat else of_head
        else:
            assert of_column is not None
            key = np.tile(of_column, self.heads) if flat else of_column
        size = self.tensor.size(axis) or 0
        return Slots(self.tensor.at(axis), size, self.start + np.arange(len(key)), key)


@dataclass(frozen=True)
class Layout:
    """Everything of an attention that has heads: several operands may hold the same part.

    `queries` and `results` have the same heads, `keys` and `values` as many or fewer; `masks`
    have the heads of the queries. `masks` is None where one may or may not have heads.
    `of_column` (width,) keys the columns of q and k that go together, and `caches` are further
    axes that have those; `tied`: all operands keep one width.
    """

    queries: Sequence[Operand]
    keys: Sequence[Operand]
    values: Sequence[Operand]
    results: Sequence[Operand]
    masks: Sequence[Operand] | None = ()
    of_column: Ints | None = None
    tied: bool = False
    caches: Sequence[Slots] = ()


def operand(tensor: Tensor | None, heads: int, start: int = 0, n: int | None = None) -> Operand:
    """A tensor (…, heads · width) or (batch, heads, length, width); no width where unknown.

    `start` and `n` say where on the last axis it lies.
    """
    missing = Tensor("")
    if tensor is None:
        return Operand(missing, 0, 0, 0, 0)
    if tensor.rank == 4:
        return Operand(tensor, tensor.size(1) or 0, tensor.size(3) or 0, 1, 3)
    size = (tensor.size(-1) or 0) if n is None else n
    whole = heads > 0 and size % heads == 0
    axis = tensor.rank - 1
    return Operand(tensor, heads if whole else 0, size // heads if whole else 0, axis, axis, start)


def scores(heads: int, *masks: Tensor | None) -> tuple[Operand, ...] | None:
    """Masks and biases (…, heads or 1, rows, columns) that do have heads; None where unclear."""
    found = []
    for mask in masks:
        if mask is None or 0 <= mask.rank < 3:
            continue
        size = mask.size(-3)
        if size not in (1, heads):
            return None
        if size == heads and heads > 1:
            found.append(Operand(mask, heads, 1, mask.rank - 3, mask.rank - 3))
    return tuple(found)


def tie(first: Slots, *others: Slots) -> tuple[Coupling, ...]:
    """Positions with equal keys live and die together; every key of an other is in the first."""
    found = []
    for other in others:
        equal = np.array_equal(first.key, other.key) and first.size == other.size
        if equal and len(first.key) == first.size == len(np.unique(first.key)):
            found.append(Coupling(first.axis, other.axis))
            continue
        used = np.isin(first.key, other.key)
        keys, dense = np.unique(other.key, return_inverse=True)
        mine = np.searchsorted(keys, first.key[used])
        c = by_key(first.axis, mine, other.axis, dense)
        assert c.a_at is not None and c.b_at is not None
        found.append(Coupling(c.a, c.b, first.at[used][c.a_at], other.at[c.b_at]))
    if not others:  # alone: positions of one key hold together
        found += tie(first, first)
    return tuple(found)


def choice(layout: Layout) -> Iterator[Choice]:
    """The families of channels; those that share an axis exclude each other."""
    q, k, v, y = layout.queries, layout.keys, layout.values, layout.results
    if not all(o.heads and o.width for o in (*q, *k, *v, *y)) or q[0].heads % k[0].heads:
        return
    group = q[0].heads // k[0].heads
    options = list(_by_head(layout, group)) + list(_by_column(layout))
    if options:
        yield Choice(tuple(options), REASON)


def _by_head(layout: Layout, group: int) -> Iterator[Option]:
    if layout.masks is None:
        return
    many = [*layout.queries, *layout.results, *layout.masks]
    few = [*layout.keys, *layout.values]
    whole, kv = np.arange(many[0].heads), few[0].heads
    if kv > 1:
        sides = [o.slots(of_head=whole // group) for o in many]
        sides += [o.slots(of_head=np.arange(kv)) for o in few]
        yield Option(tie(*sides), kv)
    packed = {o.tensor.name for o in many} & {o.tensor.name for o in few}
    if group > 1 and not packed:
        yield Option(tie(*(o.slots(of_head=whole % group) for o in many)), group)


def _by_column(layout: Layout) -> Iterator[Option]:
    qk, vy = [*layout.queries, *layout.keys], [*layout.values, *layout.results]
    if layout.tied:
        yield from _columns(layout, [*qk, *vy])
        return
    both = [*_columns(layout, qk), *_columns(Layout((), (), (), ()), vy)]
    if len(both) == 2 and both[0].axes & both[1].axes:
        both = [Option(both[0].couplings + both[1].couplings, both[0].width + both[1].width)]
    yield from both


def _columns(layout: Layout, operands: Sequence[Operand]) -> Iterator[Option]:
    width = operands[0].width
    key = np.arange(width) if layout.of_column is None else layout.of_column
    count = len(np.unique(key))
    if count > 1 and all(o.width == width for o in operands):
        sides = [o.slots(of_column=key) for o in operands]
        yield Option(tie(*sides, *layout.caches), count)


def left(o: Operand, kept: Kept) -> tuple[int, int]:
    """Heads and width of an operand after the cut."""
    at = kept(o.tensor, o.head) - o.start
    if o.head != o.column:
        return len(at), len(kept(o.tensor, o.column))
    inside = at[(at >= 0) & (at < o.heads * o.width)]
    heads = len(np.unique(inside // o.width))
    return heads, len(inside) // max(heads, 1)
