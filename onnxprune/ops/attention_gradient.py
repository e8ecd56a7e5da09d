"""Gradients of attention: P = softmax(s · Q Kᵀ + mask), Y = P V.

They are dV = Pᵀ dY, dP = dY Vᵀ, dS = P · (dP - Σ dP · P), dQ = s · dS K, dK = s · dSᵀ Q.
Shares P are computed anew. Nothing goes through what is kept of earlier calls (past, present).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of
from onnxprune.types import Node, Tensor

__all__ = ["fused", "multi_head", "standard"]


class _Heads(NamedTuple):
    """Queries, keys or values as (batch, heads, length, width), by name.

    `flat`: they were given as (batch, length, heads · width). `repeats`: how often each head of
    keys and values was repeated for heads of queries.
    """

    name: str
    heads: int
    flat: bool
    repeats: int = 1

    def back(self, t: Builder, grad: str) -> str:
        """A gradient in the form in which they were given."""
        if self.repeats > 1:
            lengths = t.emit("Gather", t.sizes(grad), t.constant([0, 2, 3], np.int64))
            first, rest = (
                t.emit("Gather", lengths, t.constant(at, np.int64)) for at in ([0], [1, 2])
            )
            split = t.constant([self.heads, self.repeats], np.int64)
            apart = t.emit("Concat", first, split, rest, axis=0)
            grad = t.along("ReduceSum", t.emit("Reshape", grad, apart), [2], keep=False)
        return _joined(t, grad) if self.flat else grad


def _joined(t: Builder, x: str) -> str:
    """(batch, heads, length, width) to (batch, length, heads · width)."""
    turned = t.emit("Transpose", x, perm=[0, 2, 1, 3])
    return t.emit("Reshape", turned, t.constant([0, 0, -1], np.int64))


def _apart(t: Builder, x: str, heads: int) -> str:
    """(batch, length, heads · width) to (batch, heads, length, width)."""
    split = t.emit("Reshape", x, t.constant([0, 0, heads, -1], np.int64))
    return t.emit("Transpose", split, perm=[0, 2, 1, 3])


def _heads(t: Builder, x: Tensor, heads: int, of: int = 0) -> _Heads:
    """The heads of an input, repeated to as many as there are `of` queries."""
    count = heads or x.size(1) or 0
    need(count and (not of or of % count == 0))
    name = _apart(t, x.name, count) if x.rank == 3 else x.name
    repeats = of // count if of else 1
    if repeats > 1:
        picked = np.repeat(np.arange(count), repeats)
        name = t.take(name, 1, picked)
    return _Heads(name, count, x.rank == 3, repeats)


class _Attended(NamedTuple):
    """Gradients of queries, keys, values and of what was added to scores, with all heads."""

    q: str
    k: str
    v: str
    scores: str


def _attended(
    t: Builder, sides: tuple[str, str, str], shares: str, scale: float, dy: str
) -> _Attended:
    q, k, v = sides
    to_shares = t.mul(t.emit("MatMul", dy, t.swapped(v, 4)), shares)
    rest = t.mul(shares, t.along("ReduceSum", to_shares, [3]))
    scores = t.minus(to_shares, rest)
    scaled = t.scaled(scores, scale)
    return _Attended(
        t.emit("MatMul", scaled, k),
        t.emit("MatMul", t.swapped(scaled, 4), q),
        t.emit("MatMul", t.swapped(shares, 4), dy),
        scores,
    )


def _scale(node: Node, width: int | None) -> float:
    """1/√width unless the node says otherwise."""
    given = float(node.attrs.get("scale", 0) or 0)
    need(given or width)
    return given or 1 / math.sqrt(width or 1)


def standard(t: Builder, node: Node, dy: str) -> Gradients:
    """ONNX's Attention, which gives its shares itself; without softcap."""
    need(not node.attrs.get("softcap", 0.0) and all(node.input(k) is None for k in (4, 5, 6)))
    inputs = [tensor_of(node, k) for k in range(3)]
    many, few = (int(node.attrs.get(f"{k}_num_heads", 0)) for k in ("q", "kv"))
    q = _heads(t, inputs[0], many)
    k, v = (_heads(t, x, few, q.heads) for x in inputs[1:])
    names = [x.name if x is not None else "" for x in node.inputs]
    attrs = {**node.attrs, "qk_matmul_output_mode": 3}
    shares = t.results("Attention", *names, shown=(True, False, False, True), **attrs)[3]
    width = inputs[0].size(3) if not q.flat else (inputs[0].size(2) or 0) // q.heads
    grad = _apart(t, dy, q.heads) if q.flat else dy
    made = _attended(t, (q.name, k.name, v.name), shares, _scale(node, width), grad)
    found: Gradients = [q.back(t, made.q), k.back(t, made.k), v.back(t, made.v)]
    mask = node.input(3)
    if mask is not None:
        full = Tensor("", ("", q.heads, "queries", "keys"))
        found.append(t.summed(made.scores, mask, full))
    return found


def _shares(t: Builder, node: Node, q: str, k: str, added: list[str]) -> str:
    """Shares of a node whose queries come scaled."""
    scores = t.total([t.emit("MatMul", q, t.swapped(k, 4)), *added])
    if node.attrs.get("unidirectional", 0):
        fill = t.constant(float(node.attrs.get("mask_filter_value", -10000.0)))
        ones = t.spread(t.constant(1.0), Tensor(scores))
        later = t.emit("Trilu", ones, t.constant(1, np.int64), upper=1)
        scores = t.emit("Add", scores, t.mul(later, fill))
    return t.shares(scores, 3)


def multi_head(t: Builder, node: Node, dy: str) -> Gradients:
    """onnxruntime's, of queries, keys and values (batch, length, width), and one bias of all."""
    heads, inputs = int(node.attrs["num_heads"]), [tensor_of(node, k) for k in range(3)]
    need(all(x.rank == 3 for x in inputs) and all(node.input(k) is None for k in (4, 6, 7)))
    sizes, names = [x.size(2) or 0 for x in inputs], [x.name for x in inputs]
    bias = node.input(3)
    if bias is not None:
        need(all(sizes))
        ends = np.cumsum([0, *sizes]).tolist()
        parts = [t.cut(bias.name, 0, a, b) for a, b in pairwise(ends)]
        names = [t.emit("Add", x, part) for x, part in zip(names, parts, strict=True)]
    sides = [_apart(t, name, heads) for name in names]
    scale = _scale(node, sizes[0] // heads)
    added = node.input(5)
    bias_names = [added.name] if added is not None else []
    shares = _shares(t, node, t.scaled(sides[0], scale), sides[1], bias_names)
    made = _attended(t, (sides[0], sides[1], sides[2]), shares, scale, _apart(t, dy, heads))
    found: Gradients = [None] * len(node.inputs)
    found[:3] = back = [_joined(t, grad) for grad in made[:3]]
    if bias is not None:
        sums = [t.along("ReduceSum", grad, [0, 1], keep=False) for grad in back]
        found[3] = t.emit("Concat", *sums, axis=0)
    return found


def fused(t: Builder, node: Node, dy: str) -> Gradients:
    """Onnxruntime's with its projection inside: weight (in, q + k + v) and bias."""
    x, w, heads = tensor_of(node), tensor_of(node, 1), int(node.attrs["num_heads"])
    need(all(node.input(k) is None for k in (4, 5, 6)) and not node.attrs.get("do_rotary", 0))
    total, depth = w.size(1) or 0, w.size(0) or 0
    sizes = [int(n) for n in node.attrs.get("qkv_hidden_sizes", ())] or [total // 3] * 3
    need(total and depth)
    joined = t.emit("MatMul", x.name, w.name)
    if node.input(2) is not None:
        joined = t.emit("Add", joined, tensor_of(node, 2).name)
    ends = np.cumsum([0, *sizes]).tolist()
    pieces = [t.cut(joined, 2, a, b) for a, b in pairwise(ends)]
    sides = [_apart(t, piece, heads) for piece in pieces]
    scale = _scale(node, sizes[0] // heads)
    shares = _shares(t, node, t.scaled(sides[0], scale), sides[1], _masked(t, node))
    made = _attended(t, (sides[0], sides[1], sides[2]), shares, scale, _apart(t, dy, heads))
    grad = t.emit("Concat", *(_joined(t, each) for each in made[:3]), axis=2)
    rows, grads = (
        t.emit("Reshape", name, t.constant([-1, size], np.int64))
        for name, size in ((x.name, depth), (grad, total))
    )
    found: Gradients = [t.emit("MatMul", grad, t.swapped(w.name, 2))]
    found.append(t.emit("Gemm", rows, grads, transA=1))
    found.append(t.along("ReduceSum", grad, [0, 1], keep=False))
    return found


def _masked(t: Builder, node: Node) -> list[str]:
    """What a mask (batch, length) of ones adds to scores where it is zero."""
    mask = node.input(3)
    if mask is None:
        return []
    need(mask.rank == 2)
    fill = float(node.attrs.get("mask_filter_value", -10000.0))
    off = t.minus(t.constant(1.0), t.cast(mask.name))
    return [t.along("Unsqueeze", t.scaled(off, fill), [1, 2])]
