"""The smallest model whose score stays within a drop, by bisection over targets.

With the score falling as the share does, every try halves what is left between a share that drops
too much and one that does not. If it does not fall everywhere, the result still is within the drop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from onnxprune.errors import GateError, InputError, TargetError
from onnxprune.usercode import Function, function_of

__all__ = ["MILDEST", "Found", "Try", "bisect", "scorer"]

#: The first share that is tried.
MILDEST = 0.95
#: How close the smallest share within the drop is found.
RESOLUTION = 0.02

R = TypeVar("R")


@dataclass(frozen=True)
class Try:
    """A target that was tried and its score; None where the target is out of reach."""

    share: float
    score: float | None
    within: bool


@dataclass(frozen=True)
class Found(Generic[R]):
    """The smallest result within the drop, at `share`, and everything that was tried."""

    result: R
    share: float
    tries: tuple[Try, ...]


def bisect(
    make: Callable[[float], R],
    score: Callable[[R], float],
    least: float,
    lowest: float | None = None,
) -> Found[R]:
    """Search shares from `lowest` (None: any) to `MILDEST` for the smallest that scores `least`.

    Raises:
        GateError: not even the mildest share does.
    """
    tries: list[Try] = []
    best: tuple[float, R] | None = None

    def passes(share: float) -> bool:
        nonlocal best
        try:
            result = make(share)
        except TargetError:
            if best is None:
                raise
            tries.append(Try(share, None, False))
            return False
        value = score(result)
        tries.append(Try(share, value, value >= least))
        if value >= least:
            best = share, result
        return value >= least

    high, low = max(MILDEST, lowest or 0.0), lowest or 0.0
    if not passes(high):
        raise GateError(
            f"gate failed: already at share {high:g} the score is {tries[0].score:.4g}, below the "
            f"{least:.4g} that are allowed. Nothing was written."
        )
    if lowest is not None and lowest < high and passes(lowest):
        high = lowest
    while high - low > RESOLUTION:
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    assert best is not None
    return Found(best[1], best[0], tuple(tries))


def scorer(evaluate: Any) -> Function:
    """The user's function from a session to a number, checked.

    Raises:
        InputError: there is no such function; later, it fails or returns no finite number.
    """
    if isinstance(evaluate, str):
        function = function_of(evaluate, "evaluate")
    elif callable(evaluate):
        function = Function(f"evaluate {getattr(evaluate, '__name__', 'function')}", evaluate)
    else:
        raise InputError(f"evaluate {evaluate!r}: give file.py:function, or a function in Python")

    def checked(session: Any) -> float:
        value = function(session)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{function.name}: returned {value!r}, give a finite number")
        return number

    return Function(function.name, checked)
