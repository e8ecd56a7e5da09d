"""Activations: the elementwise functions that networks put behind layers, with their slopes.

One line states all that is known of one, see `functions`.
"""

from __future__ import annotations

import math

from onnxprune.ops.builder import Builder
from onnxprune.ops.facets import Function
from onnxprune.ops.functions import function, function_by_rule
from onnxprune.ops.gradients import Slope, behind_bias, need, ramp
from onnxprune.types import Node

__all__ = ["CONTRIBUTED", "gelu_slope", "tanh_gelu_slope"]

MS = "com.microsoft:"
#: Those of onnxruntime, whose couplings stand in `contrib`.
CONTRIBUTED = tuple(f"{MS}{op}" for op in ("FastGelu", "Gelu", "QuickGelu", "ScaledSiLU"))
#: Ends of the exponential part of Selu, as in the standard.
SELU_ALPHA, SELU_GAMMA = 1.6732631921768188, 1.0507010221481323


def _number(node: Node, name: str, usual: float) -> float:
    return float(node.attrs.get(name, usual))


def _one_or(t: Builder, x: str, below: str) -> str:
    """1 where x is positive, `below` elsewhere."""
    positive = t.emit("Greater", x, t.constant(0.0))
    return t.emit("Where", positive, t.constant(1.0), below)


def _leaky(t: Builder, x: str, y: str, node: Node) -> str:
    alpha = _number(node, "alpha", 0.01)
    return t.plus(t.scaled(t.above(x, 0.0), 1 - alpha), alpha)


def _thresholded(t: Builder, x: str, y: str, node: Node) -> str:
    return t.above(x, _number(node, "alpha", 1.0))


def _elu(t: Builder, x: str, y: str, node: Node) -> str:
    """α·eˣ = y + α below zero."""
    return _one_or(t, x, t.plus(y, _number(node, "alpha", 1.0)))


def _selu(t: Builder, x: str, y: str, node: Node) -> str:
    """γ above zero, γ·α·eˣ = y + γ·α below."""
    alpha, gamma = _number(node, "alpha", SELU_ALPHA), _number(node, "gamma", SELU_GAMMA)
    positive = t.emit("Greater", x, t.constant(0.0))
    return t.emit("Where", positive, t.constant(gamma), t.plus(y, alpha * gamma))


def _celu(t: Builder, x: str, y: str, node: Node) -> str:
    """e^(x/α) = y/α + 1 below zero."""
    return _one_or(t, x, t.plus(t.scaled(y, 1 / _number(node, "alpha", 1.0)), 1.0))


def _softsign(t: Builder, x: str, y: str, node: Node) -> str:
    root = t.emit("Reciprocal", t.plus(t.emit("Abs", x), 1.0))
    return t.mul(root, root)


def _between(t: Builder, gate: str) -> str:
    """1 where a gate is neither closed nor fully open."""
    return t.mul(t.above(gate, 0.0), t.mask("Less", gate, t.constant(1.0)))


def _hard_sigmoid(t: Builder, x: str, y: str, node: Node) -> str:
    return t.scaled(_between(t, y), _number(node, "alpha", 0.2))


def _hard_swish(t: Builder, x: str, y: str, node: Node) -> str:
    gate = t.emit("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    return t.emit("Add", gate, t.scaled(t.mul(x, _between(t, gate)), 1 / 6))


def _sigmoid(t: Builder, x: str, y: str, node: Node) -> str:
    return t.mul(y, t.minus(t.constant(1.0), y))


def _tanh(t: Builder, x: str, y: str, node: Node) -> str:
    return t.minus(t.constant(1.0), t.mul(y, y))


def _mish(t: Builder, x: str, y: str, node: Node) -> str:
    """Y = x·tanh(s(x)) with s = log(1 + eˣ), whose slope is the sigmoid."""
    gate = t.emit("Tanh", t.emit("Softplus", x))
    bend = t.mul(x, t.emit("Sigmoid", x), t.minus(t.constant(1.0), t.mul(gate, gate)))
    return t.emit("Add", gate, bend)


def _swish(usual: float) -> Slope:
    """Y = x·σ(αx): σ + α·y·(1 - σ)."""

    def slope(t: Builder, x: str, y: str, node: Node) -> str:
        alpha = _number(node, "alpha", usual)
        gate = t.emit("Sigmoid", t.scaled(x, alpha))
        return t.emit("Add", gate, t.scaled(t.mul(y, t.minus(t.constant(1.0), gate)), alpha))

    return slope


def _scaled_silu(t: Builder, x: str, y: str, node: Node) -> str:
    """Y = z·σ(z) with z = αx: α·(σ + y·(1 - σ))."""
    need(node.input(1) is None)
    alpha = _number(node, "alpha", 1.0)
    gate = t.emit("Sigmoid", t.scaled(x, alpha))
    return t.scaled(t.emit("Add", gate, t.mul(y, t.minus(t.constant(1.0), gate))), alpha)


def gelu_slope(t: Builder, x: str) -> str:
    """The slope of x·Φ(x): Φ(x) + x·φ(x)."""
    phi = t.plus(t.emit("Erf", t.scaled(x, math.sqrt(0.5))), 1.0)
    bell = t.emit("Exp", t.scaled(t.mul(x, x), -0.5))
    return t.emit("Add", t.scaled(phi, 0.5), t.scaled(t.mul(x, bell), 1 / math.sqrt(2 * math.pi)))


def _gelu_by_erf(t: Builder, x: str, y: str, node: Node) -> str:
    return gelu_slope(t, x)


def tanh_gelu_slope(t: Builder, x: str) -> str:
    """The slope of x·(1 + tanh u)/2 with u = √(2/π)·(x + 0.044715 x³)."""
    root, cube = math.sqrt(2 / math.pi), 0.044715
    square = t.mul(x, x)
    gate = t.emit("Tanh", t.mul(t.scaled(x, root), t.plus(t.scaled(square, cube), 1.0)))
    turn = t.mul(t.scaled(x, root), t.plus(t.scaled(square, 3 * cube), 1.0))
    bend = t.mul(turn, t.minus(t.constant(1.0), t.mul(gate, gate)))
    return t.scaled(t.emit("Add", t.plus(gate, 1.0), bend), 0.5)


def _gelu(t: Builder, x: str, y: str, node: Node) -> str:
    exact = node.attrs.get("approximate", "none") in ("none", b"none")
    return (gelu_slope if exact else tanh_gelu_slope)(t, x)


ODD, OTHER = Function(zero=True, activation=True), Function(activation=True)

function(
    Function(zero=True, activation=True, rectifies=True), lambda t, x, y, n: ramp(t, y), "Relu"
)
function(ODD, _leaky, "LeakyRelu")
function(ODD, _thresholded, "ThresholdedRelu")
function(ODD, _elu, "Elu")
function(ODD, _selu, "Selu")
function(ODD, _celu, "Celu")
function(ODD, _softsign, "Softsign")
function(ODD, _tanh, "Tanh")
function(ODD, _hard_swish, "HardSwish")
function(ODD, _mish, "Mish")
function(ODD, _swish(1.0), "Swish")
function(ODD, _swish(1.702), MS + "QuickGelu")
function(ODD, _scaled_silu, MS + "ScaledSiLU")
function(ODD, _gelu, "Gelu")
function(ODD, _gelu_by_erf, MS + "Gelu")
function_by_rule(ODD, behind_bias(tanh_gelu_slope), MS + "FastGelu")
function(OTHER, lambda t, x, y, n: t.emit("Sigmoid", x), "Softplus")
function(OTHER, _sigmoid, "Sigmoid")
function(OTHER, _hard_sigmoid, "HardSigmoid")
function(OTHER, lambda t, x, y, n: t.mask("Equal", x, y), "Clip")
