"""What is always zero behind operators that multiply activations with each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.ops.attention_heads import Layout
from onnxprune.ops.constants import Numbers
from onnxprune.ops.registry import COUPLINGS
from onnxprune.types import Axis, Coupling, Floats, Node

__all__ = ["attended_zeros", "merged_zeros", "summed_zeros"]


def summed_zeros(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Zeros of any factor of a sum of products, along the axes that the result has too."""
    factors = {t.name: t for t in node.inputs if t is not None}
    found: dict[Axis, Floats] = {}
    for c in COUPLINGS[node.op](node):
        if isinstance(c, Coupling) and c.a_at is None and c.a.tensor in factors:
            zero = numbers.of(factors[c.a.tensor], c.a.axis) == 0
            if c.b.tensor not in factors:
                found[c.b] = np.where(zero, 0.0, found.get(c.b, np.full(len(zero), np.nan)))
    yield from found.items()


def merged_zeros(
    node: Node, numbers: Numbers, indices: tuple[int, ...], product: bool
) -> Iterator[tuple[Axis, Floats]]:
    """Zeros of an elementwise sum (of all `indices`) or product (of any), with broadcasting."""
    y = node.outputs[0]
    for k in range(y.rank):
        size = y.size(k) or 0
        rows = [
            numbers.of(t, k - y.rank) == 0
            if t is not None and y.rank - k <= t.rank and t.size(k - y.rank) == size
            else np.zeros(size, bool)
            for t in (node.inputs[i] for i in indices)
        ]
        merge = np.logical_or if product else np.logical_and
        yield y.at(k), np.where(merge.reduce(rows), 0.0, np.nan)


def attended_zeros(layout: Layout, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Zeros of an attention: where v is always zero, and what is added to it, so is the result."""
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
        zero = [numbers.of(o.tensor, k)[at] == 0 for o, k, at in sources]
        yield y.tensor.at(axis), np.where(np.logical_and.reduce(zero), 0.0, np.nan)
