"""Attention and rotary embedding: whole heads, query/key width and value width inside heads.

`onnxprune.ops.heads` says why that is exact. The default scale, 1/√(head size), is written out
when the head size changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from onnxprune.ops.heads import REASON, Layout, Operand, Slots, choice, left, operand, scores, tie
from onnxprune.ops.registry import barrier, couples, kernel, macs, same, shrinks, sums
from onnxprune.types import (
    Axis,
    Choice,
    Coupling,
    Edit,
    Ints,
    Kept,
    Kernel,
    Node,
    Option,
    Tensor,
    Work,
)

STANDARD = "Attention"
FUSED = "com.microsoft:Attention"
MULTI_HEAD = "com.microsoft:MultiHeadAttention"
GROUPED = "com.microsoft:GroupQueryAttention"
ROTARY = ("RotaryEmbedding", "com.microsoft:RotaryEmbedding")
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
    block = (_pairs(half, width, node) if rotary else np.arange(width)) // BLOCK
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
        caches=_caches(np.arange(half) // BLOCK, cos, sin) if rotary else (),
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
    """q·k sums over the columns; the projection inside is stored, and zero with its weight."""
    layout = LAYOUTS[node.op](node)
    if node.op == FUSED:
        yield 1, 1
        return
    yield 0, layout.queries[0].column
    if layout.keys[0].tensor is node.input(1):
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


def _pairs(half: int, width: int, node: Node) -> Ints:
    """(width,) key of each column: two columns that are rotated into each other share one.

    2 · `half` columns are rotated, the columns behind them are not.
    """
    at = np.arange(width)
    together = node.attrs.get("interleaved", node.attrs.get("rotary_interleaved", 0))
    key = at // 2 if together else at % max(half, 1)
    return np.where(at < 2 * half, key, at - half)


def _caches(key: Ints, *caches: Tensor | None) -> tuple[Slots, ...]:
    """The last axes of cos and sin, one position a pair."""
    return tuple(Slots(c.at(-1), len(key), np.arange(len(key)), key) for c in caches if c)


def _rotary(node: Node) -> tuple[Operand, Operand, Tensor, Tensor] | None:
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
    found = _rotary(node)
    if found is None:
        return
    x, y, cos, sin = found
    half = cos.size(-1) or 0
    each, pairs = np.arange(x.heads), _pairs(half, x.width, node)
    heads = tie(x.slots(of_head=each), y.slots(of_head=each))
    caches = _caches(np.arange(half), cos, sin)
    columns = tie(x.slots(of_column=pairs), y.slots(of_column=pairs), *caches)
    yield Choice((Option(heads, x.heads), Option(columns, x.width - half)), REASON)


@shrinks(*ROTARY)
def shrink_rotary(node: Node, kept: Kept) -> Edit:
    """Number of heads, and how many columns of each are rotated."""
    found = _rotary(node)
    assert found is not None
    x, _, cos, _ = found
    new = {"num_heads": left(x, kept)[0], "rotary_embedding_dim": 2 * len(kept(cos, -1))}
    return Edit({name: n for name, n in new.items() if node.attrs.get(name, 0) not in (0, n)})


DECODER = "keeps keys and values in buffers that the caller owns"
barrier(DECODER, *(f"com.microsoft:{op}" for op in (
    "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention", "SparseAttention",
    "PagedAttention", "SparsePagedAttention", "LinearAttention")))  # fmt: skip
