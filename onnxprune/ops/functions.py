"""Elementwise functions of one tensor: what they do to gradients, and whether zero stays zero.

One line states all of it: the function is computed for channels that always carry one number,
statistics of Gaussian channels pass through it, and gradients are multiplied with its slope.
The functions that networks put behind layers are in `activations`.
"""

from __future__ import annotations

import math

from onnxprune.ops.builder import Builder
from onnxprune.ops.constants import CONSTANTS, elementwise
from onnxprune.ops.facets import FUNCTIONS, Function, state
from onnxprune.ops.gradients import GRADIENTS, GradientRule, Slope, by_slope, first, need
from onnxprune.ops.moments import MOMENTS, through
from onnxprune.types import Node

__all__ = ["function", "function_by_rule"]


def function(fact: Function, slope: Slope, *ops: str) -> None:
    """Register elementwise functions of one tensor with all that follows from being one."""
    function_by_rule(fact, by_slope(slope), *ops)


def function_by_rule(fact: Function, rule: GradientRule, *ops: str) -> None:
    """Register functions whose gradients need more than a slope."""
    state(FUNCTIONS, fact, *ops)
    state(CONSTANTS, elementwise, *ops)
    state(MOMENTS, through, *ops)
    state(GRADIENTS, first(rule), *ops)


def _square_root(t: Builder, x: str, sign: float, number: float) -> str:
    """√(sign · x² + number)."""
    return t.emit("Sqrt", t.plus(t.scaled(t.mul(x, x), sign), number))


def _log(t: Builder, x: str, y: str, node: Node) -> str:
    return t.emit("Reciprocal", x)


def _erf(t: Builder, x: str, y: str, node: Node) -> str:
    bell = t.emit("Exp", t.emit("Neg", t.mul(x, x)))
    return t.scaled(bell, 2 / math.sqrt(math.pi))


def _shrink(t: Builder, x: str, y: str, node: Node) -> str:
    """One outside of ±lambd."""
    need(float(node.attrs.get("lambd", 0.5)) >= 0)
    return t.above(t.emit("Abs", x), float(node.attrs.get("lambd", 0.5)))


ODD, OTHER = Function(zero=True), Function()

function(ODD, lambda t, x, y, n: t.emit("Sign", x), "Abs")
function(ODD, lambda t, x, y, n: t.constant(-1.0), "Neg")
function(ODD, lambda t, x, y, n: t.over(t.constant(0.5), y), "Sqrt")
function(OTHER, lambda t, x, y, n: y, "Exp")
function(OTHER, _log, "Log")
function(OTHER, lambda t, x, y, n: t.emit("Neg", t.mul(y, y)), "Reciprocal")
function(ODD, _erf, "Erf")
function(OTHER, _shrink, "Shrink")
function(ODD, lambda t, x, y, n: t.emit("Cos", x), "Sin")
function(OTHER, lambda t, x, y, n: t.emit("Neg", t.emit("Sin", x)), "Cos")
function(ODD, lambda t, x, y, n: t.plus(t.mul(y, y), 1.0), "Tan")
function(ODD, lambda t, x, y, n: t.over(t.constant(1.0), _square_root(t, x, -1, 1)), "Asin")
function(OTHER, lambda t, x, y, n: t.over(t.constant(-1.0), _square_root(t, x, -1, 1)), "Acos")
function(ODD, lambda t, x, y, n: t.emit("Reciprocal", t.plus(t.mul(x, x), 1.0)), "Atan")
function(ODD, lambda t, x, y, n: t.emit("Cosh", x), "Sinh")
function(OTHER, lambda t, x, y, n: t.emit("Sinh", x), "Cosh")
function(ODD, lambda t, x, y, n: t.over(t.constant(1.0), _square_root(t, x, 1, 1)), "Asinh")
function(OTHER, lambda t, x, y, n: t.over(t.constant(1.0), _square_root(t, x, 1, -1)), "Acosh")
function(
    ODD,
    lambda t, x, y, n: t.emit("Reciprocal", t.plus(t.emit("Neg", t.mul(x, x)), 1.0)),
    "Atanh",
)
