"""Attention: whole heads, query/key width and value width inside heads.

`attention_heads` says why that is exact. The default scale, 1/√(head size), is written out when
the head size changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from onnxprune.ops import attention_gradient
from onnxprune.ops.attention_heads import Layout, Operand, choice, left, operand, scores
from onnxprune.ops.constants import Numbers, constant
from onnxprune.ops.gradients import gradient
from onnxprune.ops.registry import barrier, couples, kernel, macs, same, shrinks, sums
from onnxprune.ops.rotary import caches, pairs
from onnxprune.ops.zero_channels import attended_zeros
from onnxprune.types import Axis, Choice, Coupling, Edit, Floats, Kept, Kernel, Node, Tensor, Work

STANDARD = "Attention"
FUSED = "com.microsoft:Attention"
MULTI_HEAD = "com.microsoft:MultiHeadAttention"
GROUPED = "com.microsoft:GroupQueryAttention"
#: onnxruntime's GroupQueryAttention takes head sizes that are multiples of this.
BLOCK = 8


def _output(node: Node, index: int) -> Tensor | None:
    return node.outputs[index] if index < len(node.outputs) else None


def _states(node: Node, heads: int, past: int, present: int) -> tuple[Operand, ...]:
    """Past and present keys or values, those that are there."""
    given = (node.input(past), _output(node, present))
    return tuple(operand(t, heads) for t in given if t is not None and t.name)


def _standard(node: Node) -> Layout:
    """Q, K, V: (batch, length, heads · width) or (batch, heads, length, width)."""
    q, k, v = (node.input(i) for i in range(3))
    many = node.attrs.get("q_num_heads", 0) if q is None or q.rank != 4 else q.size(1) or 0
    few = node.attrs.get("kv_num_heads", 0) if k is None or k.rank != 4 else k.size(1) or 0
    return Layout(
        (operand(q, many),),
        (operand(k, few), *_states(node, few, 4, 1)),
        (operand(v, few), *_states(node, few, 5, 2)),
        (operand(node.outputs[0], many),),
        scores(many, node.input(3), _output(node, 3)),
    )


def _multi_head(node: Node) -> Layout:
    """q, k, v like the standard's; one bias (q + k + v). A past ties their widths."""
    n = int(node.attrs["num_heads"])
    k, bias, start = node.input(1), node.input(3), 0
    sides = [[operand(node.input(i), n)] for i in range(3)]
    for side in sides if bias is not None else ():
        size = side[0].heads * side[0].width
        side.append(operand(bias, n, start, size))
        start += size
    return Layout(
        sides[0],
        (*sides[1], *_states(node, n, 6, 1)),
        (*sides[2], *_states(node, n, 7, 2)),
        (operand(node.outputs[0], n),),
        scores(n, node.input(5), _output(node, 3)),
        tied=node.input(6) is not None or (k is not None and k.rank == 4),
    )


def _grouped(node: Node) -> Layout:
    """q, k, v of one width, or all in q; cos and sin rotate pairs of columns.

    The width goes in blocks that leave it a multiple of what the kernels take.
    """
    many, few = int(node.attrs["num_heads"]), int(node.attrs["kv_num_heads"])
    q, k, v, y = node.input(0), node.input(1), node.input(2), node.outputs[0]
    if k is None and q is not None:
        width = (q.size(-1) or 0) // (many + 2 * few)
        starts = (0, many * width, (many + few) * width)
        sides = [operand(q, h, s, h * width) for h, s in zip((many, few, few), starts, strict=True)]
    else:
        sides = [operand(q, many), operand(k, few), operand(v, few)]
    width, cos, sin, sink = sides[0].width, node.input(7), node.input(8), node.input(11)
    rotary = bool(node.attrs.get("do_rotary", 0))
    half = (cos.size(-1) or 0 if cos is not None else 0) if rotary else 0
    normalised = node.input(14) is not None or (rotary and 2 * half != width)
    block = (pairs(half, width, node) if rotary else np.arange(width)) // BLOCK
    masks = scores(many, node.input(10), _output(node, 3))
    if sink is not None and masks is not None:
        masks = (*masks, Operand(sink, many, 1, 0, 0))
    return Layout(
        sides[:1],
        (sides[1], *_states(node, few, 3, 1)),
        (sides[2], *_states(node, few, 4, 2)),
        (operand(y, many),),
        masks,
        np.zeros(width, np.int64) if normalised else block,
        caches=caches(np.arange(half) // BLOCK, cos, sin) if rotary else (),
        tied=True,
    )


def _fused(node: Node) -> Layout:
    """The projection is inside: weight (in, q + k + v) and bias (q + k + v)."""
    n = int(node.attrs["num_heads"])
    weight, past = node.input(1), node.input(4)
    total = weight.size(1) or 0 if weight is not None else 0
    sizes = tuple(node.attrs.get("qkv_hidden_sizes", ())) or (total // 3,) * 3
    starts = np.cumsum((0, *sizes))
    stored = [t for t in (weight, node.input(2)) if t is not None]
    sides = [[operand(t, n, int(starts[i]), sizes[i]) for t in stored] for i in range(3)]
    states = [
        Operand(t, t.size(2) or 0, t.size(4) or 0, 2, 4)
        for t in (past, _output(node, 1))
        if t is not None and t.name
    ]
    width = sides[0][0].width if stored else 0
    return Layout(
        sides[0],
        (*sides[1], *states),
        sides[2],
        (operand(node.outputs[0], n),),
        scores(n, node.input(5)),
        np.zeros(width, np.int64) if node.attrs.get("do_rotary", 0) else None,
        tied=bool(states),
    )


LAYOUTS = {STANDARD: _standard, FUSED: _fused, MULTI_HEAD: _multi_head, GROUPED: _grouped}


@couples(*LAYOUTS)
def attention(node: Node) -> Iterator[Choice | Coupling]:
    """Heads and widths; batch, lengths and what attention is masked with are silent."""
    quantised = node.op == GROUPED and node.input(12) is not None
    if not quantised:
        yield from choice(LAYOUTS[node.op](node))
    x, weight = node.input(0), node.input(1)
    if node.op == FUSED and weight is not None and weight.constant:
        yield from same(x, -1, weight, 0)


@shrinks(*LAYOUTS)
def shrink_attention(node: Node, kept: Kept) -> Edit:
    """Numbers of heads and widths that are attributes, and the scale of the full width."""
    layout = LAYOUTS[node.op](node)
    q, k, v = layout.queries[0], layout.keys[0], layout.values[0]
    (many, width), (few, _), (_, value_width) = (left(o, kept) for o in (q, k, v))
    old: dict[str, object] = {}
    new: dict[str, object] = {}
    for name, full, now in (
        ("q_num_heads", q.heads, many),
        ("kv_num_heads", k.heads, few),
        ("num_heads", q.heads, many),
    ):
        if name in node.attrs:
            old[name], new[name] = full, now
    if node.op == FUSED:
        old["qkv_hidden_sizes"] = tuple(node.attrs.get("qkv_hidden_sizes", ()))
        sizes = (many * width, many * width, many * value_width)
        same_sizes = sizes == tuple(o.heads * o.width for o in (q, k, v))
        new["qkv_hidden_sizes"] = old["qkv_hidden_sizes"] if same_sizes else sizes
    default = "scale" not in node.attrs or (node.op != STANDARD and node.attrs["scale"] == 0)
    if default and width != q.width:
        new["scale"] = 1 / math.sqrt(q.width)
    return Edit({name: value for name, value in new.items() if old.get(name) != value})


@sums(*LAYOUTS)
def sums_attention(node: Node) -> Iterator[tuple[int, int]]:
    """q·k sums over the columns; a projection inside is zero with its weight."""
    layout = LAYOUTS[node.op](node)
    if node.op == FUSED:
        yield 1, 1
        return
    yield 0, layout.queries[0].column
    past = any(o.tensor.rank >= 4 for o in layout.keys[1:])
    if layout.keys[0].tensor is node.input(1) and not past:
        yield 1, layout.keys[0].column


@macs(*LAYOUTS)
def macs_attention(node: Node) -> tuple[Work, ...]:
    """q·kᵀ and its product with v, over all positions that are kept; and a projection inside."""
    layout, y = LAYOUTS[node.op](node), node.outputs[0]
    q, result = layout.queries[0], layout.results[0]
    x, key = node.input(0), node.input(1)
    states = [o.tensor for o in layout.keys[1:] if o.tensor.rank >= 4]
    seen = states[-1] if states else key if key is not None and node.op != FUSED else x
    if x is None or not x.sample or not y.sample or seen is None or not seen.sample:
        return ()
    length = float(seen.sample[-2])
    second = Work(length * math.prod(y.sample), _axes(result))
    if node.op == FUSED and key is not None and key.sample:
        # q and k are what the weight makes beside v: (weight - v) / 2 each
        rows = float(math.prod(x.sample[:-1]))
        half = Work(rows * length * key.sample[1] / 2, (key.at(1),))
        projection = Work(rows * math.prod(key.sample), (key.at(0), key.at(1)))
        return projection, half, Work(second.amount / 2, second.axes)
    if node.op == GROUPED:  # q may be packed, but is as large as the result
        return second, second
    return Work(length * math.prod(x.sample), _axes(q)), second


def _axes(o: Operand) -> tuple[Axis, ...]:
    return tuple(o.tensor.at(axis) for axis in sorted({o.head, o.column}))


@kernel(FUSED)
def kernel_attention(node: Node) -> Kernel:
    """(in, q + k + v)."""
    return Kernel(1, 1, 0, bias=2, channel=-1)


@constant(*LAYOUTS)
def constant_attention(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Zeros of v stay zero."""
    return attended_zeros(LAYOUTS[node.op](node), numbers)


DECODER = "keeps keys and values in buffers that the caller owns"
barrier(DECODER, *(f"com.microsoft:{op}" for op in (
    "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention", "SparseAttention",
    "PagedAttention", "SparsePagedAttention", "LinearAttention")))  # fmt: skip

gradient(STANDARD)(attention_gradient.standard)
gradient(MULTI_HEAD)(attention_gradient.multi_head)
gradient(FUSED)(attention_gradient.fused)
