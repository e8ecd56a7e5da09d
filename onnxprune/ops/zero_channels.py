"""What is always zero behind operators that multiply activations with each other.

`value(tensor, axis)` gives the number that every position always carries, NaN where it varies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np

from onnxprune.ops.attention import LAYOUTS
from onnxprune.ops.registry import COUPLINGS
from onnxprune.ops.rotary import ROTARY, pairs, parts
from onnxprune.types import Axis, Coupling, Floats, Node, Tensor

__all__ = ["ZEROS"]

Value: TypeAlias = Callable[[Tensor, int], Floats]
PRODUCTS = ("Einsum", "MatMul", "com.microsoft:FusedMatMul", "com.microsoft:TransposeMatMul")


def _product(node: Node, value: Value) -> Iterator[tuple[Axis, Floats]]:
    """Zeros of any factor of a sum of products, along the axes that the result has too."""
    factors = {t.name: t for t in node.inputs if t is not None}
    found: dict[Axis, Floats] = {}
    for c in COUPLINGS[node.op](node):
        if isinstance(c, Coupling) and c.a_at is None and c.a.tensor in factors:
            zero = value(factors[c.a.tensor], c.a.axis) == 0
            if c.b.tensor not in factors:
                found[c.b] = np.where(zero, 0.0, found.get(c.b, np.full(len(zero), np.nan)))
    yield from found.items()


def _attention(node: Node, value: Value) -> Iterator[tuple[Axis, Floats]]:
    """Where v is always zero, and what is added to it, so is the result."""
    layout = LAYOUTS[node.op](node)
    values, y = layout.values, layout.results[0]
    same_form = all((o.head == o.column) == (y.head == y.column) for o in values)
    if not same_form or not y.width or not all(o.width == y.width for o in values):
        return
    heads = np.arange(y.heads) // max(y.heads // values[0].heads, 1)
    if y.head == y.column:
        spots = (heads[:, None] * y.width + np.arange(y.width)).ravel()
        axes = [(y.column, [(o, o.column, o.start + spots) for o in values])]
    else:
        whole = np.arange(y.width)
        axes = [
            (y.head, [(o, o.head, heads) for o in values]),
            (y.column, [(o, o.column, whole) for o in values]),
        ]
    for axis, sources in axes:
        zero = [value(o.tensor, k)[at] == 0 for o, k, at in sources]
        yield y.tensor.at(axis), np.where(np.logical_and.reduce(zero), 0.0, np.nan)


def _rotary(node: Node, value: Value) -> Iterator[tuple[Axis, Floats]]:
    """Two columns that are both always zero turn into zeros."""
    found = parts(node)
    if found is None:
        return
    x, y, cos, _ = found
    zero = value(x.tensor, x.column) == 0
    if x.head != x.column:
        yield y.tensor.at(y.head), np.where(value(x.tensor, x.head) == 0, 0.0, np.nan)
    rows, key = zero.reshape(-1, x.width), pairs(cos.size(-1) or 0, x.width, node)
    both = np.stack([rows[:, key == pair].all(1) for pair in key], 1)
    yield y.tensor.at(y.column), np.where(both.ravel(), 0.0, np.nan)


def _rounded(node: Node, value: Value) -> Iterator[tuple[Axis, Floats]]:
    """Sums of zeros, and products with zeros, of integers that stand for reals."""
    y, pair = node.outputs[0], (node.inputs[0], node.inputs[3])
    for k in range(y.rank):
        size = y.size(k) or 0
        rows = [
            value(t, k - y.rank) == 0
            if t is not None and y.rank - k <= t.rank and t.size(k - y.rank) == size
            else np.zeros(size, bool)
            for t in pair
        ]
        merge = np.logical_or if node.op.endswith("Mul") else np.logical_and
        yield y.at(k), np.where(merge.reduce(rows), 0.0, np.nan)


#: What is always zero behind an operator, from what is in front; NaN for all else.
ZEROS: Mapping[str, Callable[[Node, Value], Iterator[tuple[Axis, Floats]]]] = {
    **dict.fromkeys((*PRODUCTS, "LpNormalization"), _product),
    **dict.fromkeys(LAYOUTS, _attention),
    **dict.fromkeys(ROTARY, _rotary),
    **dict.fromkeys(("com.microsoft:QLinearAdd", "com.microsoft:QLinearMul"), _rounded),
}
