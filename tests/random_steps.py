"""What a random graph may do next, one function for each family of operators."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from random_maker import Maker, Size, Value, step, total

#: Values with more elements are not made larger.
LARGE = 600


def image(m: Maker, x: Value) -> bool:
    """(batch, static channels, one to three axes of space), in single or half precision."""
    return 3 <= x.rank <= 5 and x.static(1) and m.kind is not np.float64


def small(m: Maker, x: Value) -> bool:
    return prod(x.shape) <= LARGE


def ranked(low: int, high: int = 9):
    return lambda m, x: low <= x.rank <= high


def single(m: Maker, x: Value) -> bool:
    return m.kind is np.float32


def static(m: Maker, x: Value) -> bool:
    return bool(x.axes())


def both(*needs: Any):
    return lambda m, x: all(need(m, x) for need in needs)


# ---------------------------------------------------------------- weights


def plain_conv(m: Maker, x: Value, n_out: int) -> Value:
    """A convolution that reads every channel at every output."""
    taps, attrs, space = m.window(x, 3)
    w = m.matrix(n_out, x.shape[1], *taps, fan=x.shape[1] * prod(taps))
    sizes = (x.sizes[0], Size(n_out), *space)
    return m.add("Conv", (x.name, w, m.matrix(n_out)), sizes, **attrs)


@step(image)
def conv(m: Maker, x: Value) -> None:
    n_in = x.shape[1]
    group = m.pick([1, 1, n_in, *(d for d in range(2, n_in) if n_in % d == 0)])
    n_out = group * (m.width() if group == 1 else m.upto(3))
    taps, attrs, space = m.window(x, 3)
    if all(size.n == 1 or k == 1 for size, k in zip(x.sizes[2:], taps, strict=True)) and m.seldom():
        attrs = {"auto_pad": m.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])}
        space = list(x.sizes[2:])
    if group > 1:
        attrs["group"] = group
    w = m.matrix(n_out, n_in // group, *taps, fan=n_in // group * prod(taps))
    bias = [m.matrix(n_out)] if m.often() else []
    m.add("Conv", (x.name, w, *bias), (x.sizes[0], Size(n_out), *space), **attrs)


@step(both(image, small))
def conv_transpose(m: Maker, x: Value) -> None:
    n_in = x.shape[1]
    group = m.pick([1, 1, *(d for d in range(2, n_in + 1) if n_in % d == 0)])
    width, stride = m.width() if group == 1 else m.upto(3), m.upto(2)
    taps = [m.upto(3) for _ in x.sizes[2:]]
    extra = m.upto(stride - 1, 0)
    space = [
        size.through(f"deconv{k},{stride},{extra}", (size.n - 1) * stride + k + extra)
        for size, k in zip(x.sizes[2:], taps, strict=True)
    ]
    attrs: dict[str, Any] = {"group": group} if group > 1 else {}
    attrs |= {"strides": [stride] * len(taps)} if stride > 1 else {}
    attrs |= {"output_padding": [extra] * len(taps)} if extra else {}
    w = m.matrix(n_in, width, *taps, fan=n_in // group)
    bias = [m.matrix(width * group)] if m.often() else []
    sizes = (x.sizes[0], Size(width * group), *space)
    m.add("ConvTranspose", (x.name, w, *bias), sizes, **attrs)


@step(lambda m, x: x.rank >= 2 and x.static(-1))
def matmul(m: Maker, x: Value) -> None:
    n_in, n_out = x.shape[-1], m.width()
    if m.seldom():
        w = m.op("Transpose", m.matrix(n_out, n_in, fan=n_in), perm=[1, 0])
    else:
        lead = [1] * m.upto(x.rank - 2, 0) if m.seldom() else []
        w = m.matrix(*lead, n_in, n_out, fan=n_in)
    y = m.add("MatMul", (x.name, w), (*x.sizes[:-1], Size(n_out)))
    if m.half():
        m.like("Add", y, m.matrix(n_out))


@step(lambda m, x: x.rank >= 2 and x.static(-2))
def matmul_from_the_left(m: Maker, x: Value) -> None:
    n_in, n_out = x.shape[-2], m.width()
    w = m.matrix(n_out, n_in, fan=n_in)
    m.add("MatMul", (w, x.name), (*x.sizes[:-2], Size(n_out), x.sizes[-1]))


@step(lambda m, x: x.rank == 2 and x.static(1))
def gemm(m: Maker, x: Value) -> None:
    n_in, n_out = x.shape[1], m.width()
    attrs: dict[str, Any] = {}
    if m.half():
        w, attrs["transB"] = m.matrix(n_out, n_in, fan=n_in), 1
    else:
        w = m.matrix(n_in, n_out, fan=n_in)
    if m.seldom():
        attrs |= {"alpha": 0.5, "beta": 2.0}
    if m.seldom():
        x = Value(m.op("Transpose", x.name, perm=[1, 0]), x.sizes)
        attrs["transA"] = 1
    bias = m.pick([(n_out,), (n_out,), (1, n_out), (1,), ()])
    own = [m.matrix(*bias)] if m.often() or m.opset < 11 else []
    m.add("Gemm", (x.name, w, *own), (x.sizes[0], Size(n_out)), **attrs)


@step(lambda m, x: x.rank == 3 and x.static(2) and m.opset >= 13)
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


# ---------------------------------------------------------------- normalisations


@step(lambda m, x: x.rank >= 2 and x.static(1))
def batch_norm(m: Maker, x: Value) -> None:
    n = x.shape[1]
    m.like("BatchNormalization", x, m.vector(n), m.matrix(n), m.matrix(n), m.vector(n))


@step(image)
def instance_norm(m: Maker, x: Value) -> None:
    m.like("InstanceNormalization", x, m.vector(x.shape[1]), m.vector(x.shape[1]))


@step(both(static, lambda m, x: m.opset >= 17))
def layer_norm(m: Maker, x: Value) -> bool | None:
    axis = m.upto(x.rank - 1, 0)
    if not all(x.static(k) for k in range(axis, x.rank)):
        return False
    shape = x.shape[axis:]
    bias = m.vector(*shape)
    m.like("LayerNormalization", x, m.vector(*shape), bias, axis=m.at(axis, x))
    return None


@step(static)
def softmax(m: Maker, x: Value) -> None:
    axis = m.upto(x.rank - 1, 0)
    m.like(m.pick(["Softmax", "LogSoftmax"]), x, axis=m.at(axis, x))


@step(both(static, single, lambda m, x: m.opset >= 11))
def cumulative_sum(m: Maker, x: Value) -> None:
    m.like("CumSum", x, m.const(np.array(m.upto(x.rank - 1, 0))))


@step(both(single, lambda m, x: x.rank == 4 and x.static(1)))
def local_response(m: Maker, x: Value) -> None:
    m.like("LRN", x, size=3)


# ---------------------------------------------------------------- element by element


@step(lambda m, x: True)
def unary(m: Maker, x: Value) -> None:
    kinds = "Relu LeakyRelu Sigmoid Tanh Abs Neg Identity Elu Softplus HardSigmoid Softsign Erf"
    kinds += " Selu"
    kinds += " HardSwish" if m.opset >= 14 and m.kind is np.float32 else ""
    kinds += " Celu" if m.opset >= 12 and m.kind is np.float32 else ""
    kinds += " Mish" if m.opset >= 18 and m.kind is np.float32 else ""
    kinds += " Gelu" if m.opset >= 20 else ""
    kinds += " Floor Ceil Sin Cos" if m.kind is np.float32 else ""
    kinds += " ThresholdedRelu" if m.opset >= 10 and m.kind is np.float32 else ""
    if m.kind is np.float64:
        kinds = "Relu Sigmoid Tanh Abs Neg Identity"
    m.like(m.pick(kinds.split()), x)


@step(lambda m, x: True)
def guarded(m: Maker, x: Value) -> None:
    """Functions that are not defined everywhere, or grow fast, on values between bounds."""
    y = m.positive(x)
    kind = m.pick(["Exp", "Sqrt", "Log", "Reciprocal"])
    m.like(kind, y)


@step(single)
def clip(m: Maker, x: Value) -> None:
    if m.opset < 11:
        m.like("Clip", x, min=-0.5, max=6.0)
    else:
        m.like("Clip", x, m.number(-0.5), m.number(6.0))


@step(single)
def cast_there_and_back(m: Maker, x: Value) -> None:
    y = m.op("Cast", x.name, to=TensorProto.DOUBLE)
    m.like("Cast", Value(y, x.sizes), to=TensorProto.FLOAT)


@step(lambda m, x: True)
def with_a_constant(m: Maker, x: Value) -> None:
    """A stored second operand: each axis in full, or of size 1, or missing."""
    full = [size.n if x.static(k) and m.often() else 1 for k, size in enumerate(x.sizes)]
    lead = next((k for k, n in enumerate(full) if n > 1), x.rank)
    shape = full[m.upto(lead, 0) :]
    kind = m.pick(["Add", "Mul", "Sub", "Div", "Max", "Min", "PRelu"])
    if kind == "PRelu" and m.kind is not np.float32:
        kind = "Add"
    k = m.vector(*shape) if kind in ("Div", "PRelu") else m.matrix(*shape)
    if kind in ("Add", "Mul", "Sub", "Max") and m.seldom():
        m.add(kind, (k, x.name), x.sizes)
    else:
        m.like(kind, x, k)


@step(lambda m, x: True)
def with_another(m: Maker, x: Value) -> None:
    """A live second operand, broadcast where it has fewer or smaller axes."""
    y = m.pick(m.partners(x)[::-1])
    kind = m.pick(["Add", "Mul", "Sub", "Max", "Div", "Pow", "Mean"])
    if kind == "Mean" and m.kind is np.float64:
        kind = "Add"
    if kind == "Mul":
        y = m.tame(y)
    elif kind == "Div":
        y = m.positive(y)
    elif kind == "Pow":
        x, y = m.positive(x), m.positive(y)
    if kind in ("Add", "Mul", "Max") and m.half():
        m.add(kind, (y.name, x.name), x.sizes)
    else:
        m.like(kind, x, y.name)


@step(both(single, lambda m, x: m.opset >= 9))
def where(m: Maker, x: Value) -> None:
    y = m.pick(m.partners(x))
    asked = m.op(m.pick(["Greater", "Less"]), x.name, m.number(0.123))
    if m.seldom():
        asked = m.op("And", asked, m.op("Less", y.name, m.number(0.789)))
    m.add("Where", (asked, x.name, m.pick([y.name, m.number(0.25)])), x.sizes)


@step(image)
def gate_by_mean(m: Maker, x: Value) -> None:
    axes = list(range(2, x.rank))
    more, attrs = m.axes_of("ReduceMean", axes, 18)
    s = m.op("Sigmoid", m.op("ReduceMean", x.name, *more, keepdims=1, **attrs))
    m.like("Mul", x, s)


# ---------------------------------------------------------------- joining and cutting


@step(small)
def concat(m: Maker, x: Value) -> None:
    axis = m.upto(x.rank - 1, 0)

    def fits(y: Value) -> bool:
        pairs = enumerate(zip(x.sizes, y.sizes, strict=False))
        return y.rank == x.rank and all(a == b or k == axis for k, (a, b) in pairs)

    others = [y for y in m.live if fits(y)]
    parts = [x, *(m.pick(others[::-1]) for _ in range(m.upto(2)))]
    if m.half():
        parts.reverse()
    joined = [part.sizes[axis] for part in parts]
    symbol = "+".join(f"{s.n}{s.symbol}" for s in joined) if any(s.symbol for s in joined) else ""
    sizes = list(x.sizes)
    sizes[axis] = Size(sum(s.n for s in joined), symbol)
    m.add("Concat", [part.name for part in parts], sizes, axis=m.at(axis, x))


@step(lambda m, x: any(x.shape[k] > 1 for k in x.axes()))
def split(m: Maker, x: Value) -> None:
    axis = m.pick([k for k in x.axes() if x.shape[k] > 1])
    n = x.shape[axis]
    first = m.upto(n - 1)
    parts = [first, n - first]
    more: list[str] = []
    attrs: dict[str, Any] = {"axis": m.at(axis, x)}
    if parts[0] != parts[1] or m.half():
        if m.opset >= 13:
            more = [m.ints(*parts)]
        else:
            attrs["split"] = parts
    elif m.opset >= 18:
        attrs["num_outputs"] = 2
    for part, name in zip(parts, m.op("Split", x.name, *more, outputs=2, **attrs), strict=True):
        m.live.append(Value(name, (*x.sizes[:axis], Size(part), *x.sizes[axis + 1 :])))


@step(both(static, lambda m, x: m.opset >= 10))
def slice_(m: Maker, x: Value) -> None:
    axes = x.axes()[: m.upto(2)] if m.half() else [m.pick(x.axes())]
    cuts, sizes = [], list(x.sizes)
    for axis in axes:
        n = x.shape[axis]
        start = m.upto(n - 1, 0)
        end = m.upto(n, start + 1)
        step_by = m.pick([1, 1, 1, 2])
        sizes[axis] = Size(len(range(start, end, step_by)))
        if m.seldom():  # from behind
            start, end, step_by = end - 1, start - 1 if start else -(2**31), -1
            sizes[axis] = Size(start - (end if end >= 0 else -1))
        else:
            start = start - n if m.seldom() else start
            end = m.pick([end, end, 2**31]) if end == n else end
        cuts.append((start, end, axis - x.rank if m.seldom() else axis, step_by))
    columns = [m.ints(*column) for column in zip(*cuts, strict=True)]
    if all(cut[3] == 1 for cut in cuts):
        columns.pop()
    m.add("Slice", (x.name, *columns), sizes)


@step(both(static, small, lambda m, x: m.opset >= 11))
def pad(m: Maker, x: Value) -> None:
    low, high = [0] * x.rank, [0] * x.rank
    mode = m.pick(["constant", "constant", "reflect", "edge"])
    for axis in {m.pick(x.axes()), m.pick(x.axes())}:
        n = x.shape[axis]
        most = min(2, n - 1) if mode == "reflect" else 2
        low[axis], high[axis] = m.upto(most, 0), m.upto(most, 0)
        if mode == "constant" and n > 2 and m.seldom():
            low[axis] = -1
    more = [m.number(0.5)] if mode == "constant" and m.seldom() else []
    if m.kind is np.float16 and mode != "constant":
        mode = "constant"
    sizes = [
        Size(s.n + a + b, s.symbol if not a and not b else f"pad{a},{b}({s.symbol})")
        if s.symbol
        else Size(s.n + a + b)
        for s, a, b in zip(x.sizes, low, high, strict=True)
    ]
    m.add("Pad", (x.name, m.ints(*low, *high), *more), sizes, mode=mode)


@step(static)
def gather(m: Maker, x: Value) -> None:
    axis = m.pick(x.axes())
    n = x.shape[axis]
    if x.rank > 1 and m.seldom():
        index = m.const(np.array(m.upto(n - 1, 0)))
        m.add("Gather", (x.name, index), (*x.sizes[:axis], *x.sizes[axis + 1 :]), axis=axis)
        return
    picks = [m.upto(n - 1, 0) for _ in range(m.upto(min(n, 5)))]
    picks = [p - n if m.seldom() else p for p in picks]
    sizes = (*x.sizes[:axis], Size(len(picks)), *x.sizes[axis + 1 :])
    m.add("Gather", (x.name, m.ints(*picks)), sizes, axis=m.at(axis, x))


@step(both(static, small))
def tile(m: Maker, x: Value) -> None:
    repeats = [m.upto(2) for _ in x.sizes]
    sizes = [s.through(f"tile{r}", s.n * r) if r > 1 else s
             for s, r in zip(x.sizes, repeats, strict=True)]  # fmt: skip
    m.add("Tile", (x.name, m.ints(*repeats)), sizes)


@step(both(small, lambda m, x: 1 in x.shape and m.opset >= 8))
def expand(m: Maker, x: Value) -> None:
    target = [m.upto(4) if s == Size(1) else 1 for s in x.sizes]
    sizes = [Size(n) if s == Size(1) else s for s, n in zip(x.sizes, target, strict=True)]
    m.add("Expand", (x.name, m.ints(*target)), sizes)


@step(both(small, single, lambda m, x: x.rank == 4 and x.static(1)))
def depth_to_space(m: Maker, x: Value) -> None:
    n_in, n = x.shape[1], m.upto(2)
    deep = m.op("Conv", x.name, m.matrix(4 * n, n_in, 1, 1, fan=n_in))
    attrs = {"mode": m.pick(["DCR", "CRD"])} if m.opset >= 11 else {}
    space = [s.through("*2", 2 * s.n) for s in x.sizes[2:]]
    m.add("DepthToSpace", (deep,), (x.sizes[0], Size(n), *space), blocksize=2, **attrs)


@step(both(single, lambda m, x: x.rank == 4 and all(x.static(k) for k in (1, 2, 3))))
def space_to_depth(m: Maker, x: Value) -> bool | None:
    if x.shape[2] % 2 or x.shape[3] % 2:
        return False
    space = [Size(s.n // 2) for s in x.sizes[2:]]
    m.add("SpaceToDepth", (x.name,), (x.sizes[0], Size(4 * x.shape[1]), *space), blocksize=2)
    return None


# ---------------------------------------------------------------- views


@step(ranked(2))
def transpose(m: Maker, x: Value) -> None:
    perm = list(range(x.rank))
    for k in range(x.rank - 1):
        other = m.upto(x.rank - 1, k)
        perm[k], perm[other] = perm[other], perm[k]
    m.add("Transpose", (x.name,), [x.sizes[k] for k in perm], perm=perm)


@step(ranked(2))
def flatten(m: Maker, x: Value) -> None:
    axis = m.pick([1, *range(1, x.rank)])
    m.add("Flatten", (x.name,), (total(x.sizes[:axis]), total(x.sizes[axis:])), axis=axis)


@step(ranked(1, 5))
def reshape(m: Maker, x: Value) -> bool | None:
    """A run of axes becomes another run of the same product; at most one entry is -1."""
    start = m.upto(x.rank - 1, 0)
    end = m.upto(min(x.rank, start + 3), start + 1)
    run = x.sizes[start:end]
    varying = [s for s in run if s.symbol]
    made = [total(run)] if varying else [Size(f) for f in m.factors(prod(s.n for s in run))]
    sizes = (*x.sizes[:start], *made, *x.sizes[end:])
    entries = [0 if k < start and (s.symbol or m.half()) else s.n for k, s in enumerate(sizes)]
    open_at = [k for k, s in enumerate(sizes) if s.symbol and k >= start]
    if len(open_at) > 1 or len(sizes) > 6:
        return False
    if open_at or m.seldom():
        entries[open_at[0] if open_at else m.upto(len(sizes) - 1, 0)] = -1
    m.add("Reshape", (x.name, m.ints(*entries)), sizes)
    return None


@step(both(ranked(3), lambda m, x: x.static(1)))
def computed_reshape(m: Maker, x: Value) -> None:
    """Joins or keeps axes, with sizes read from the value itself as exporters do."""
    shape = m.op("Shape", x.name)
    at = {k: m.op("Gather", shape, m.ints(k)) for k in range(x.rank)}
    if m.half():
        parts, sizes = [at[0], m.ints(-1), at[x.rank - 1]], None
        sizes = (x.sizes[0], total(x.sizes[1:-1]), x.sizes[-1])
    else:
        parts = [at[0], at[1] if m.half() else m.ints(x.shape[1]), m.ints(-1)]
        sizes = (x.sizes[0], x.sizes[1], total(x.sizes[2:]))
    m.add("Reshape", (x.name, m.op("Concat", *parts, axis=0)), sizes)


@step(lambda m, x: x.rank == 4 and x.static(1) and x.shape[1] > 3 and not x.shape[1] % 2)
def channel_shuffle(m: Maker, x: Value) -> bool | None:
    if not all(x.static(k) for k in (2, 3)):
        return False
    n, space = x.shape[1], x.shape[2:]
    y = m.op("Reshape", x.name, m.ints(0, 2, n // 2, *space))
    y = m.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    m.add("Reshape", (y, m.ints(0, n, *space)), x.sizes)
    return None


@step(lambda m, x: x.rank > 1 and Size(1) in x.sizes)
def squeeze(m: Maker, x: Value) -> None:
    axis = m.pick([k for k, size in enumerate(x.sizes) if size == Size(1)])
    more, attrs = m.axes_of("Squeeze", [axis], 13)
    sizes = (*x.sizes[:axis], *x.sizes[axis + 1 :])
    m.add("Squeeze", (x.name, *more), sizes, **attrs)


@step(ranked(1, 4))
def unsqueeze(m: Maker, x: Value) -> None:
    axis = m.upto(x.rank, 0)
    more, attrs = m.axes_of("Unsqueeze", [axis], 13)
    m.add("Unsqueeze", (x.name, *more), (*x.sizes[:axis], Size(1), *x.sizes[axis:]), **attrs)


@step(both(single, lambda m, x: m.opset >= 9))
def filled(m: Maker, x: Value) -> None:
    """Adds a tensor of one number that is made in the shape of the value."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.25])
    y = m.op("ConstantOfShape", m.op("Shape", x.name), value=value)
    m.like("Add", x, y)


@step(single)
def by_its_size(m: Maker, x: Value) -> None:
    """Divides by the number of elements, which a model computes from the shape."""
    n = m.op("Cast", m.op("Size", x.name), to=TensorProto.FLOAT)
    m.like("Mul", x, m.op("Log", m.op("Add", n, m.number(1.5))))


# ---------------------------------------------------------------- space


@step(both(image, single))
def pool(m: Maker, x: Value) -> None:
    kind = m.pick(["MaxPool", "AveragePool", "LpPool"])
    taps, attrs, space = m.window(x, 3)
    if kind == "AveragePool" and m.half():
        attrs["count_include_pad"] = 1
    m.add(kind, (x.name,), (*x.sizes[:2], *space), kernel_shape=taps, **attrs)


@step(both(image, single))
def global_pool(m: Maker, x: Value) -> None:
    kind = m.pick(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
    m.add(kind, (x.name,), (*x.sizes[:2], *[Size(1)] * (x.rank - 2)))


@step(lambda m, x: x.rank > 1)
def reduce(m: Maker, x: Value) -> None:
    kind = m.pick("ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceLogSumExp "
                  "ReduceSumSquare ReduceProd ReduceLogSum".split())  # fmt: skip
    if m.kind is not np.float32:
        kind = m.pick(["ReduceMean", "ReduceSum"])
    axes = sorted({m.upto(x.rank - 1, 0) for _ in range(m.upto(min(2, x.rank - 1)))})
    if kind in ("ReduceProd", "ReduceLogSum"):
        x = m.positive(x)
    since = 13 if kind == "ReduceSum" else 18
    keep = m.upto(1, 0)
    more, attrs = m.axes_of(kind, [m.at(a, x) for a in axes], since)
    sizes = [Size(1) if k in axes else s for k, s in enumerate(x.sizes) if keep or k not in axes]
    y = m.add(kind, (x.name, *more), sizes, keepdims=keep, **attrs)
    if kind in ("ReduceSumSquare", "ReduceProd"):  # these grow
        m.live[-1] = m.tame(y)


@step(both(static, single))
def arg(m: Maker, x: Value) -> None:
    axis = m.pick(x.axes())
    y = m.op(m.pick(["ArgMax", "ArgMin"]), x.name, axis=axis, keepdims=1)
    y = m.op("Cast", y, to=TensorProto.FLOAT)
    m.live.append(Value(y, (*x.sizes[:axis], Size(1), *x.sizes[axis + 1 :])))


@step(both(static, single, lambda m, x: m.opset >= 11))
def top_k(m: Maker, x: Value) -> None:
    axis = m.pick(x.axes())
    k = m.upto(x.shape[axis])
    y, _ = m.op("TopK", x.name, m.ints(k), axis=axis, outputs=2)
    m.live.append(Value(y, (*x.sizes[:axis], Size(k), *x.sizes[axis + 1 :])))


@step(both(image, single, small, lambda m, x: m.opset >= 11 and x.rank == 4))
def resize(m: Maker, x: Value) -> None:
    mode = m.pick(["nearest", "linear"])
    doubled = [s.through("*2", 2 * s.n) for s in x.sizes[2:]]
    empty = "" if m.opset >= 13 else m.const(np.zeros(0, np.float32))
    roi = "" if m.opset >= 13 else empty
    if all(x.static(k) for k in range(4)) and m.half():
        target = m.ints(*x.shape[:2], *(s.n for s in doubled))
        more = (roi, empty, target)
    else:
        more = (roi, m.const(np.float32([1, 1, 2, 2])))
    attrs: dict[str, Any] = {"mode": mode}
    if mode == "nearest" and m.half():
        attrs |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    m.add("Resize", (x.name, *more), (*x.sizes[:2], *doubled), **attrs)


# ---------------------------------------------------------------- control flow


@step(lambda m, x: m.opset >= 11)
def branch(m: Maker, x: Value) -> None:
    """A condition on the data; both branches read values from outside."""
    y = m.pick(m.partners(x))
    more, attrs = m.axes_of("ReduceMean", list(range(x.rank)), 18) if x.rank else ([], {})
    mean = m.op("ReduceMean", x.name, *more, keepdims=0, **attrs)
    asked = m.op("Greater", mean, m.number(0.01))
    own = helper.np_dtype_to_tensor_dtype(np.dtype(m.kind))

    def body(kind: str) -> Any:
        name = f"{kind.lower()}{len(m.nodes)}_in"
        node = helper.make_node(kind, [x.name, y.name], [name])
        shape = [(s.symbol and None) or s.n for s in x.sizes]
        return helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(name, own, shape)]
        )

    z = m.op("If", asked, then_branch=body("Add"), else_branch=body("Sub"))
    m.live.append(Value(z, x.sizes))
