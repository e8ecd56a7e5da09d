"""Steps of a random graph: weights, normalisations, operators that work element by element."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto
from random_maker import Maker, Size, Value, both, image, single, small, static, step

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
    if (kind == "Mean" and m.kind is np.float64) or (kind == "Sub" and y is x):
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
