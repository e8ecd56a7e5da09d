"""Steps of a random graph that quantise: stored weights, values on their way, integer operators."""

from __future__ import annotations

from math import prod

import numpy as np
from random_maker import Maker, Size, Value, both, image, single, step


def _integers(m: Maker, *shape: int) -> str:
    """Stored weights of eight bits."""
    return m.const(m.rng.integers(-100, 100, shape).astype(np.int8))


def _scale(m: Maker, n: int, fan: int) -> str:
    """One scale for every output channel, or for all, that keeps a sum over `fan` in size."""
    scales = m.rng.uniform(0.01, 0.02, n if m.half() else ()) / max(fan, 1) ** 0.5
    return m.const(scales.astype(np.float32))


def _zero(m: Maker, scale: str, kind: type = np.int8) -> str:
    """Zero points in the shape of the scales."""
    shape = next(tuple(t.dims) for t in m.weights if t.name == scale)
    return m.const(m.rng.integers(0, 5, shape).astype(kind))


def _quantised(m: Maker, x: Value) -> tuple[str, str, str]:
    """A value in eight bits without a sign, its scale and zero point."""
    scale, zero = m.number(0.05), m.const(np.uint8(128))
    return m.op("QuantizeLinear", x.name, scale, zero), scale, zero


@step(both(single, lambda m, x: m.opset >= 10))
def quantised_and_back(m: Maker, x: Value) -> None:
    q, scale, zero = _quantised(m, x)
    m.live.append(Value(m.op("DequantizeLinear", q, scale, zero), x.sizes))


@step(both(single, lambda m, x: x.rank >= 2 and x.static(-1) and m.opset >= 13))
def matmul_of_quantised_weight(m: Maker, x: Value) -> None:
    n_in, n_out = x.shape[-1], m.width()
    scale = _scale(m, n_out, n_in)
    parts = [_integers(m, n_in, n_out), scale, *([_zero(m, scale)] if m.half() else [])]
    w = m.op("DequantizeLinear", *parts, axis=1)
    m.add("MatMul", (x.name, w), (*x.sizes[:-1], Size(n_out)))


@step(both(image, single, lambda m, x: m.opset >= 13))
def conv_of_quantised_weight(m: Maker, x: Value) -> None:
    n_in = x.shape[1]
    group = m.pick([1, n_in])
    n_out = group * m.upto(2) if group > 1 else m.width()
    taps, attrs, space = m.window(x, 3)
    fan = n_in // group * prod(taps)
    scale = _scale(m, n_out, fan)
    w = m.op("DequantizeLinear", _integers(m, n_out, n_in // group, *taps), scale, axis=0)
    bias = [m.matrix(n_out)] if m.half() else []
    if m.half() and bias:
        stored = m.const(m.rng.integers(-500, 500, n_out).astype(np.int32))
        bias = [m.op("DequantizeLinear", stored, m.vector(n_out), axis=0)]
    attrs |= {"group": group} if group > 1 else {}
    m.add("Conv", (x.name, w, *bias), (x.sizes[0], Size(n_out), *space), **attrs)


@step(both(image, single, lambda m, x: x.rank == 4 and m.opset >= 10))
def integer_conv(m: Maker, x: Value) -> None:
    """QLinearConv between two conversions, or ConvInteger and a scale behind it."""
    n_in, n_out = x.shape[1], m.width()
    taps, attrs, space = m.window(x, 3)
    fan = n_in * prod(taps)
    q, x_scale, x_zero = _quantised(m, x)
    w, scale = _integers(m, n_out, n_in, *taps), _scale(m, n_out, fan)
    sizes = (x.sizes[0], Size(n_out), *space)
    if m.half():
        zero = m.const(np.int8(0))
        y = m.op("ConvInteger", q, w, x_zero, zero, **attrs)
        y = m.op("Cast", y, to=1)
        m.add("Mul", (y, m.number(0.0005 / fan**0.5)), sizes)
    else:
        y_scale, y_zero = m.number(0.05), m.const(np.uint8(120))
        w_zero = m.const(np.zeros_like(_dims(m, scale), np.int8))
        bias = [m.const(m.rng.integers(-500, 500, n_out).astype(np.int32))] if m.half() else []
        parts = (q, x_scale, x_zero, w, scale, w_zero, y_scale, y_zero, *bias)
        y = m.op("QLinearConv", *parts, **attrs)
        m.live.append(Value(m.op("DequantizeLinear", y, y_scale, y_zero), sizes))


def _dims(m: Maker, name: str) -> np.ndarray:
    return np.zeros(next(tuple(t.dims) for t in m.weights if t.name == name))


@step(both(single, lambda m, x: x.rank >= 2 and x.static(-1) and m.opset >= 10))
def integer_matmul(m: Maker, x: Value) -> None:
    """QLinearMatMul between two conversions, or MatMulInteger and a scale behind it."""
    n_in, n_out = x.shape[-1], m.width()
    q, x_scale, x_zero = _quantised(m, x)
    w, sizes = _integers(m, n_in, n_out), (*x.sizes[:-1], Size(n_out))
    if m.half():
        y = m.op("MatMulInteger", q, w, x_zero, m.const(np.int8(0)))
        m.add("Mul", (m.op("Cast", y, to=1), m.vector(n_out)), sizes)
        m.live[-1] = m.tame(m.live[-1])
    else:
        scale = _scale(m, n_out, n_in)
        y_scale, y_zero = m.number(0.05), m.const(np.uint8(120))
        w_zero = m.const(np.zeros_like(_dims(m, scale), np.int8))
        y = m.op("QLinearMatMul", q, x_scale, x_zero, w, scale, w_zero, y_scale, y_zero)
        m.live.append(Value(m.op("DequantizeLinear", y, y_scale, y_zero), sizes))
