"""Steps of a random graph that add a whole block, as networks have them."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_maker import Maker, Size, Value, both, image, single, step


def sequence(m: Maker, x: Value) -> bool:
    """(batch, length, static features)."""
    return x.rank == 3 and x.static(2) and m.opset >= 13


@step(sequence)
def attention(m: Maker, x: Value) -> None:
    """Query, key and value by heads; the width of values may be another."""
    n_in, heads, width, out = x.shape[2], m.upto(3), m.upto(4), m.upto(4)
    batch, length = x.sizes[:2]

    def part(y: str, size: int, *perm: int) -> str:
        split = m.op("Reshape", y, m.ints(0, 0, heads, size))
        return m.op("Transpose", split, perm=list(perm))

    def project(n: int) -> str:
        return m.op("MatMul", x.name, m.matrix(n_in, n, fan=n_in))

    if m.half():
        widths = (heads * width, heads * width, heads * out)
        sizes = m.ints(*widths)
        q, k, v = m.op("Split", project(sum(widths)), sizes, outputs=3, axis=2)
    else:
        q, k, v = project(heads * width), project(heads * width), project(heads * out)
    scores = m.op("MatMul", part(q, width, 0, 2, 1, 3), part(k, width, 0, 2, 3, 1))
    scores = m.op("Softmax", m.op("Div", scores, m.number(width**0.5)), axis=-1)
    mixed = m.op("MatMul", scores, part(v, out, 0, 2, 1, 3))
    mixed = m.op("Transpose", mixed, perm=[0, 2, 1, 3])
    joined = m.op("Reshape", mixed, m.ints(0, 0, heads * out))
    w = m.matrix(heads * out, n_in, fan=heads * out)
    y = m.add("MatMul", (joined, w), (batch, length, Size(n_in)))
    if m.half():
        m.like("Add", y, x.name)


@step(lambda m, x: x.rank >= 2 and x.static(-1))
def gated_hidden(m: Maker, x: Value) -> None:
    """Two projections, one gates the other, and a third one back."""
    n_in, hidden = x.shape[-1], m.width()
    sizes = (*x.sizes[:-1], Size(hidden))
    a, b = (m.op("MatMul", x.name, m.matrix(n_in, hidden, fan=n_in)) for _ in range(2))
    gated = m.op("Mul", m.op(m.pick(["Sigmoid", "Tanh", "Relu"]), a), m.tame(Value(b, sizes)).name)
    y = m.add("MatMul", (gated, m.matrix(hidden, n_in, fan=hidden)), x.sizes)
    m.like("Add", y, x.name)


@step(image)
def squeeze_and_excite(m: Maker, x: Value) -> None:
    n, hidden, ones = x.shape[1], m.width(), [1] * (x.rank - 2)
    s = m.op("GlobalAveragePool", x.name)
    s = m.op("Relu", m.op("Conv", s, m.matrix(hidden, n, *ones, fan=n), m.matrix(hidden)))
    s = m.op("Sigmoid", m.op("Conv", s, m.matrix(n, hidden, *ones, fan=hidden), m.matrix(n)))
    m.like("Mul", x, s)


@step(image)
def residual(m: Maker, x: Value) -> None:
    n, hidden, rank = x.shape[1], m.width(), x.rank - 2
    pads = [1] * 2 * rank
    y = m.op("Conv", x.name, m.matrix(hidden, n, *[3] * rank, fan=3 * n), pads=pads)
    y = m.op("Relu", y)
    w = m.matrix(n, hidden, *[1] * rank, fan=hidden)
    m.add("Add", (m.op("Conv", y, w, m.matrix(n)), x.name), x.sizes)


@step(sequence)
def shared_keys(m: Maker, x: Value) -> None:
    """Several query heads read one key and value, repeated by Expand."""
    n_in, sets, share, width = x.shape[2], m.upto(2), m.upto(3), m.upto(3)
    heads = sets * share

    def split(n: int) -> str:
        y = m.op("MatMul", x.name, m.matrix(n_in, n * width, fan=n_in))
        return m.op("Transpose", m.op("Reshape", y, m.ints(0, 0, n, width)), perm=[0, 2, 1, 3])

    def repeated(y: str) -> str:
        """(batch, sets, length, width) → (batch, heads, length, width)."""
        lone = m.op("Unsqueeze", y, m.ints(2))
        wide = m.op("Expand", lone, m.ints(1, 1, share, 1, 1))
        length = -1 if x.sizes[1].symbol else x.shape[1]
        return m.op("Reshape", wide, m.ints(0, heads, length, width))

    k, v = repeated(split(sets)), repeated(split(sets))
    scores = m.op("MatMul", split(heads), m.op("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = m.op("MatMul", m.op("Softmax", scores, axis=-1), v)
    joined = m.op("Reshape", m.op("Transpose", mixed, perm=[0, 2, 1, 3]), m.ints(0, 0, -1))
    w = m.matrix(heads * width, n_in, fan=heads * width)
    m.add("MatMul", (joined, w), x.sizes)


@step(both(sequence, single))
def recurrent(m: Maker, x: Value) -> None:
    """LSTM, GRU or RNN along the first axis, both directions joined behind it."""
    kind = m.pick(["LSTM", "GRU", "RNN"])
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    n_in, units, both_ways = x.shape[2], m.width(), m.half()
    dirs = 2 if both_ways else 1
    w = m.matrix(dirs, gates * units, n_in, fan=n_in)
    r = m.matrix(dirs, gates * units, units, fan=units)
    bias = [m.matrix(dirs, 2 * gates * units)] if m.often() else []
    attrs: dict[str, Any] = {"hidden_size": units}
    attrs |= {"direction": "bidirectional"} if both_ways else {}
    attrs |= {"linear_before_reset": 1} if kind == "GRU" and m.half() else {}
    y = m.op(kind, x.name, w, r, *bias, **attrs)
    if both_ways or m.half():
        y = m.op("Transpose", y, perm=[0, 2, 1, 3])
        y = m.op("Reshape", y, m.ints(0, 0, -1))
    else:
        more, attrs = m.axes_of("Squeeze", [1], 13)
        y = m.op("Squeeze", y, *more, **attrs)
    m.live.append(Value(y, (*x.sizes[:2], Size(dirs * units))))


@step(lambda m, x: 2 <= x.rank <= 4 and x.static(-1) and m.opset >= 12 and single(m, x))
def einsum(m: Maker, x: Value) -> None:
    """A product written with letters: an axis summed, passed, or multiplied by."""
    letters = "abcd"[: x.rank]
    n_in, n_out = x.shape[-1], m.width()
    last = letters[-1]
    kind = m.pick(["out", "scale", "sum", "batch"])
    if kind == "scale":
        m.add("Einsum", (x.name, m.vector(n_in)), x.sizes, equation=f"{letters},{last}->{letters}")
    elif kind == "sum":
        equation = f"{letters}->{letters[:-1]}"
        y = m.add("Einsum", (x.name,), x.sizes[:-1], equation=equation)
        m.live[-1] = m.tame(y)
    elif kind == "batch" and x.static(0):
        equation = f"{letters},{letters[0]}{last}z->{letters[:-1]}z"
        w = m.matrix(x.shape[0], n_in, n_out, fan=n_in)
        m.add("Einsum", (x.name, w), (*x.sizes[:-1], Size(n_out)), equation=equation)
    else:
        w = m.matrix(n_in, n_out, fan=n_in)
        equation = f"{letters},{last}z->{letters[:-1]}z"
        m.add("Einsum", (x.name, w), (*x.sizes[:-1], Size(n_out)), equation=equation)


@step(both(image, single, lambda m, x: m.opset >= 21))
def group_norm(m: Maker, x: Value) -> None:
    n = x.shape[1]
    groups = m.pick([d for d in range(1, n + 1) if n % d == 0])
    m.like("GroupNormalization", x, m.vector(n), m.vector(n), num_groups=groups)


@step(both(single, lambda m, x: x.rank >= 2 and x.static(-1) and m.opset >= 17))
def fused(m: Maker, x: Value) -> None:
    """onnxruntime's own operators over the last axis."""
    n, ms = x.shape[-1], {"domain": "com.microsoft"}
    kind = m.pick(["Gelu", "QuickGelu", "FastGelu", "BiasGelu", "FusedMatMul", "SkipNorm"])
    if kind == "FusedMatMul":
        n_out = m.width()
        w = m.matrix(n_out, n, fan=n)
        m.add(kind, (x.name, w), (*x.sizes[:-1], Size(n_out)), transB=1, alpha=0.5, **ms)
    elif kind == "SkipNorm" and x.rank == 3:
        m.like("SkipLayerNormalization", x, x.name, m.vector(n), m.vector(n), **ms)
    elif kind in ("BiasGelu", "FastGelu"):
        m.like(kind, x, m.matrix(n), **ms)
    else:
        m.like(kind if kind in ("Gelu", "QuickGelu") else "Gelu", x, **ms)


@step(both(sequence, single, lambda m, x: m.opset >= 17))
def fused_attention(m: Maker, x: Value) -> None:
    """One operator for all heads: onnxruntime's two, and the standard one."""
    n_in, heads, width, out = x.shape[2], m.upto(3), m.upto(4), m.upto(4)
    ms = {"domain": "com.microsoft"}

    def project(n: int) -> str:
        return m.op("MatMul", x.name, m.matrix(n_in, n, fan=n_in))

    kind = m.pick(["MultiHeadAttention", "packed", "standard"])
    if kind == "packed":
        out = width
        w, b = m.matrix(n_in, 3 * heads * width, fan=n_in), m.matrix(3 * heads * width)
        y = m.op("Attention", x.name, w, b, num_heads=heads, **ms)
    elif kind == "standard" and m.opset >= 23:
        parts = project(heads * width), project(heads * width), project(heads * out)
        y = m.op("Attention", *parts, q_num_heads=heads, kv_num_heads=heads)
    else:
        parts = project(heads * width), project(heads * width), project(heads * out)
        y = m.op("MultiHeadAttention", *parts, num_heads=heads, **ms)
    w = m.matrix(heads * out, n_in, fan=heads * out)
    m.add("MatMul", (y, w), x.sizes)


@step(both(single, lambda m, x: x.static(-1) and x.shape[-1] > 1 and m.opset >= 10))
def embedding(m: Maker, x: Value) -> None:
    """Looks up rows by a computed index, as a table of words or positions."""
    rows, width = m.upto(5, 2), m.width()
    index = m.op("ArgMax", x.name, axis=x.rank - 1, keepdims=0)
    index = m.op("Mod", index, m.const(np.array(rows)))
    m.add("Gather", (m.matrix(rows, width), index), (*x.sizes[:-1], Size(width)), axis=0)


@step(both(single, lambda m, x: x.rank >= 2 and x.static(-1) and m.opset >= 13))
def rotary(m: Maker, x: Value) -> None:
    """Rotates one half of the last axis into the other, as exporters write it."""
    half = m.upto(3)
    y = m.op("MatMul", x.name, m.matrix(x.shape[-1], 2 * half, fan=x.shape[-1]))
    last = m.ints(-1)
    a = m.op("Slice", y, m.ints(0), m.ints(half), last)
    b = m.op("Slice", y, m.ints(half), m.ints(2**31), last)
    turned = m.op("Concat", m.op("Neg", b), a, axis=-1)
    cos, sin = m.vector(2 * half), m.vector(2 * half)
    sizes = (*x.sizes[:-1], Size(2 * half))
    m.add("Add", (m.op("Mul", y, cos), m.op("Mul", turned, sin)), sizes)


@step(lambda m, x: x.rank >= 2 and x.static(-1) and x.static(-2) and m.kind is not np.float16)
def product_of_activations(m: Maker, x: Value) -> None:
    """A value times its own transpose, and times another: sums without a weight."""
    perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    y = m.tame(x)
    turned = m.op("Transpose", y.name, perm=perm)
    sizes = (*x.sizes[:-1], x.sizes[-2])
    m.live.append(m.tame(Value(m.op("MatMul", y.name, turned), sizes)))
