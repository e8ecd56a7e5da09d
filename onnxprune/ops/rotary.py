"""Rotary embedding: pairs of columns turn by an angle of their own, the same in every head."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.ops import rotary_gradient
from onnxprune.ops.attention_heads import REASON, Operand, Slots, left, operand, tie
from onnxprune.ops.constants import Numbers, constant
from onnxprune.ops.gradients import gradient
from onnxprune.ops.registry import couples, shrinks
from onnxprune.types import Axis, Choice, Edit, Floats, Ints, Kept, Node, Option, Tensor

__all__ = ["ROTARY", "caches", "pairs", "parts"]

ROTARY = ("RotaryEmbedding", "com.microsoft:RotaryEmbedding")


def pairs(half: int, width: int, node: Node) -> Ints:
    """(width,) key of each column: two columns that are rotated into each other share one.

    2 · `half` columns are rotated, the columns behind them are not.
    """
    at = np.arange(width)
    together = node.attrs.get("interleaved", node.attrs.get("rotary_interleaved", 0))
    key = at // 2 if together else at % max(half, 1)
    return np.where(at < 2 * half, key, at - half)


def caches(key: Ints, *tables: Tensor | None) -> tuple[Slots, ...]:
    """The last axes of cos and sin, one position a pair."""
    return tuple(Slots(c.at(-1), len(key), np.arange(len(key)), key) for c in tables if c)


def parts(node: Node) -> tuple[Operand, Operand, Tensor, Tensor] | None:
    """Data, result, cos and sin; None where a size needed is not static."""
    first = 1 if node.op == ROTARY[0] else 2
    x, cos, sin = node.input(0), node.input(first), node.input(first + 1)
    if x is None or cos is None or sin is None or not cos.size(-1):
        return None
    heads = int(node.attrs.get("num_heads", 0))
    if not heads:  # the caches say how wide a head is
        heads = (x.size(-1) or 0) // (2 * (cos.size(-1) or 1))
    data, result = operand(x, heads), operand(node.outputs[0], heads)
    return (data, result, cos, sin) if data.width and result.width else None


@couples(*ROTARY)
def rotary(node: Node) -> Iterator[Choice]:
    """Every pair of columns turns by itself, the same in all heads."""
    found = parts(node)
    if found is None:
        return
    x, y, cos, sin = found
    half = cos.size(-1) or 0
    each, key = np.arange(x.heads), pairs(half, x.width, node)
    heads = tie(x.slots(of_head=each), y.slots(of_head=each))
    tables = caches(np.arange(half), cos, sin)
    columns = tie(x.slots(of_column=key), y.slots(of_column=key), *tables)
    yield Choice((Option(heads, x.heads), Option(columns, x.width - half)), REASON)


@shrinks(*ROTARY)
def shrink_rotary(node: Node, kept: Kept) -> Edit:
    """Number of heads, and how many columns of each are rotated."""
    found = parts(node)
    assert found is not None
    x, _, cos, _ = found
    new = {"num_heads": left(x, kept)[0], "rotary_embedding_dim": 2 * len(kept(cos, -1))}
    return Edit({name: n for name, n in new.items() if node.attrs.get(name, 0) not in (0, n)})


@constant(*ROTARY)
def constant_rotary(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Two columns that are both always zero turn into zeros."""
    found = parts(node)
    if found is None:
        return
    x, y, cos, _ = found
    zero = numbers.of(x.tensor, x.column) == 0
    if x.head != x.column:
        yield y.tensor.at(y.head), np.where(numbers.of(x.tensor, x.head) == 0, 0.0, np.nan)
    rows, key = zero.reshape(-1, x.width), pairs(cos.size(-1) or 0, x.width, node)
    both = np.stack([rows[:, key == pair].all(1) for pair in key], 1)
    yield y.tensor.at(y.column), np.where(both.ravel(), 0.0, np.nan)


gradient(*ROTARY)(rotary_gradient.rotary)
