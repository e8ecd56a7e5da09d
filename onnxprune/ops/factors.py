"""How a number that multiplies a result passes through the operators behind it.

f·s + c = f·(s + c/f), sqrt(f·s) = sqrt(f)·sqrt(s), (f·s)^p = f^p·s^p, x/(f·s) = (x/s)/f: so the
width that a mean is divided by ends in the ε and the γ of a normalisation that is written out, and
no operator is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import TypeAlias

import numpy as np

from onnxprune.ops.facets import ARITHMETIC, CASTS, COPIES
from onnxprune.ops.registry import register
from onnxprune.types import Node

__all__ = ["FACTORS", "Passed", "passed"]


@dataclass(frozen=True)
class Passed:
    """What becomes of a factor: the one of the result, and numbers that other inputs take."""

    factor: float
    times: Mapping[int, float] = field(default_factory=dict)


#: What becomes of a factor of input `index`; None where it does not pass.
FactorRule: TypeAlias = Callable[[Node, int, float], Passed | None]
FACTORS: dict[str, FactorRule] = {}


def passed(node: Node, index: int, factor: float) -> Passed | None:
    """Say what becomes of a factor of an input; None where the operator does not pass it on.

    Args:
        node: reads the input once.
        index: which.
        factor: what it is multiplied with.
    """
    if node.op in FACTORS:
        return FACTORS[node.op](node, index, factor)
    sign = ARITHMETIC.get(node.op)
    if sign in ("+", "-"):
        others = [k for k, t in enumerate(node.inputs) if t is not None and k != index]
        if not all(node.inputs[k].constant for k in others):  # type: ignore[union-attr]
            return None
        return Passed(factor, dict.fromkeys(others, 1 / factor))
    if sign == "*" and len(node.inputs) == 2:
        other = node.inputs[1 - index]
        taken = other is not None and other.constant
        return Passed(1.0, {1 - index: factor}) if taken else Passed(factor)
    if sign == "/":
        return Passed(factor if index == 0 else 1 / factor)
    moved = COPIES.get(node.op, "joins") != "joins" or node.op in CASTS
    return Passed(factor) if moved and index == 0 else None


@register(FACTORS, ("Sqrt",))
def root(node: Node, index: int, factor: float) -> Passed:
    """The root of the factor."""
    return Passed(sqrt(factor))


@register(FACTORS, ("Reciprocal",))
def inverse(node: Node, index: int, factor: float) -> Passed:
    """One over the factor."""
    return Passed(1 / factor)


@register(FACTORS, ("Pow",))
def power(node: Node, index: int, factor: float) -> Passed | None:
    """The factor to the same power, where that is one stored number."""
    exponent = node.inputs[1]
    value = None if exponent is None or index != 0 else exponent.value
    if value is None or np.size(value) != 1:
        return None
    return Passed(factor ** float(np.ravel(value)[0]))
