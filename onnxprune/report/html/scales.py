"""Place numbers on an axis and choose the ticks that a reader expects there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Scale", "linear", "logarithmic", "number", "percent", "power", "tight"]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """A number with three digits, thousands as people write them."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def percent(value: float) -> str:
    """A share in percent, with digits where they tell something apart."""
    return f"{100 * value:.3g}%"


@dataclass(frozen=True)
class Scale:
    """An axis: what it shows, from where to where, and where its ticks are.

    Attributes:
        label: what is shown, with its unit.
        low: the number at its beginning.
        high: the number at its end.
        ticks: numbers that are written on it.
        text: how a number is written.
        log: whether equal distances are equal ratios.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    text: Callable[[float], str] = number
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a number in percent of the axis, its ends for numbers beyond them."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return 100 * (value - low) / (high - low)


def power(value: float) -> str:
    """A power of ten as such, but for those that are read at once."""
    exponent = round(math.log10(value))
    if -3 <= exponent <= 3:
        return number(value)
    return f"10{str(exponent).translate(_RAISED)}"


def tight(label: str, low: float, high: float) -> Scale:
    """An axis from one number to another, with the ticks that lie between them."""
    whole = linear(label, [low, high])
    high = high if high > low else low + abs(low) / 20 + 1e-9
    ticks = tuple(tick for tick in whole.ticks if low <= tick <= high)
    return Scale(label, low, high, ticks, number)


def linear(
    label: str,
    values: Iterable[float],
    text: Callable[[float], str] = number,
    zero: bool = False,
) -> Scale:
    """An axis that holds all values, from one tick to another; with `zero` it begins at 0."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = (min(0.0, *known) if zero else min(known)), max(known)
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low, high = (low, high + 1) if zero else (low - abs(low) / 20, high + abs(high) / 20)
    step = _step((high - low) / 5 or 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(k * step for k in range(first, max(last, first + 1) + 1))
    return Scale(label, ticks[0], ticks[-1], ticks, text)


def logarithmic(label: str, values: Iterable[float], decades: int = 8) -> Scale:
    """A logarithmic axis over the positive values, of so many decades below the largest at most."""
    known = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
    last = math.ceil(math.log10(max(known)) - 1e-9)
    first = max(math.floor(math.log10(min(known)) + 1e-9), last - decades)
    first = min(first, last - 1)
    step = max(1, math.ceil((last - first) / 6))
    ticks = tuple(10.0**k for k in range(first, last + 1, step))
    return Scale(label, 10.0**first, 10.0**last, ticks, power, log=True)


def _step(rough: float) -> float:
    """The distance of ticks: 1, 2 or 5 times a power of ten, not below the rough one."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
