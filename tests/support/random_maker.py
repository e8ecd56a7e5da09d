"""The pen that random graphs are written with: values with known shapes, and every choice drawn.

A size that varies carries a symbol beside its sample size; an operator that changes it writes what
it did into the symbol, so that two equal symbols are two equal sizes whatever the model is fed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st
from networks import Net
from onnx import helper

__all__ = [
    "STEPS",
    "Maker",
    "Size",
    "Value",
    "both",
    "image",
    "rank",
    "single",
    "small",
    "static",
    "step",
    "total",
]


@dataclass(frozen=True)
class Size:
    """A size at the sample input, and its symbol; empty where it never changes."""

    n: int
    symbol: str = ""

    def through(self, what: str, n: int) -> Size:
        """The size `n` that `what` makes of this one."""
        return Size(n, f"{what}({self.symbol})" if self.symbol else "")


@dataclass(frozen=True)
class Value:
    """A tensor of the graph's own kind of float."""

    name: str
    sizes: tuple[Size, ...]

    @property
    def rank(self) -> int:
        return len(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size.n for size in self.sizes)

    def static(self, axis: int) -> bool:
        """Whether `axis` exists and never changes its size."""
        return -self.rank <= axis < self.rank and not self.sizes[axis].symbol

    def axes(self) -> list[int]:
        """The axes that never change their size."""
        return [axis for axis in range(self.rank) if self.static(axis)]


#: Numbers of channels: mostly with room to prune, some prime, some too few.
WIDTHS = (4, 6, 8, 5, 12, 3, 6, 2, 4, 1)
#: What a step needs of the value it starts from, and the step; it returns False if it gives up.
Step = Callable[["Maker", Value], Any]
#: Whether a step may start from a value.
Fits = Callable[["Maker", Value], bool]
STEPS: dict[str, tuple[Fits, Step]] = {}


def step(fits: Fits) -> Callable[[Step], Step]:
    """Register a step under its name; it may start from values that `fits`."""

    def add(function: Step) -> Step:
        STEPS[function.__name__] = (fits, function)
        return function

    return add


_integers = cache(st.integers)


class Maker(Net):
    """Writes one graph; `live` are the values that later steps may start from."""

    def __init__(self, draw: Callable[..., Any], opset: int, kind: type[np.generic]) -> None:
        super().__init__(opset)
        self.draw, self.kind = draw, kind
        self.live: list[Value] = []
        self.stored: dict[tuple[int, ...], list[str]] = {}
        #: Whether every other value on its way goes through integers.
        self.encodes = False

    def pick(self, options: Sequence[Any]) -> Any:
        """One of `options`; failing examples shrink towards the first."""
        return options[self.upto(len(options) - 1, 0)]

    def upto(self, high: int, low: int = 1) -> int:
        """A number from `low` to `high`."""
        return low if low == high else int(self.draw(_integers(low, high)))

    def width(self) -> int:
        """A number of channels."""
        return int(self.pick(WIDTHS))

    def often(self) -> bool:
        return self.upto(3, 0) < 3

    def seldom(self) -> bool:
        return self.upto(7, 0) == 7

    def half(self) -> bool:
        return self.upto(1, 0) == 1

    def add(self, kind: str, inputs: Sequence[str], sizes: Sequence[Size], **attrs: Any) -> Value:
        """An operator with one result, which lives on."""
        name = self.op(kind, *inputs, **attrs)
        value = Value(self.coded(name), tuple(sizes))
        self.live.append(value)
        return value

    def coded(self, name: str) -> str:
        """Half of the values of a graph that `encodes`, turned into integers and back."""
        if not self.encodes or self.half():
            return name
        parts = self.number(0.05), self.const(np.uint8(128))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", name, *parts), *parts)

    def like(self, kind: str, x: Value, *more: str, **attrs: Any) -> Value:
        """An operator whose result has the shape of its first input."""
        return self.add(kind, (x.name, *more), x.sizes, **attrs)

    def quiet(self, kind: str, x: Value, *more: str, **attrs: Any) -> Value:
        """The same, but no other step may start from the result."""
        return Value(self.op(kind, x.name, *more, **attrs), x.sizes)

    def matrix(self, *shape: int, fan: int = 0) -> str:
        """A weight of both signs that keeps a sum over `fan` in size; now and then a shared one."""
        if self.stored.get(shape) and self.seldom():
            return str(self.pick(self.stored[shape]))
        values = self.rng.uniform(0.5, 1.5, shape) * self.rng.choice([-1, 1], shape)
        name = self.const((values / max(fan, 1) ** 0.5).astype(self.kind))
        self.stored.setdefault(shape, []).append(name)
        return name

    def vector(self, *shape: int) -> str:
        """A positive parameter: a scale, a variance, a slope, a divisor."""
        return self.const(self.rng.uniform(0.5, 1.5, shape).astype(self.kind))

    def number(self, value: float) -> str:
        """A scalar of the graph's kind."""
        return self.const(np.asarray(value, self.kind))

    def ints(self, *values: int) -> str:
        """A list of integers."""
        return self.const(np.array(values, np.int64))

    def at(self, axis: int, x: Value) -> int:
        """The axis, or the same counted from the end, which opset 11 began to allow."""
        return axis - x.rank if self.opset >= 11 and self.seldom() else axis

    def axes_of(
        self, kind: str, axes: Sequence[int], since: int
    ) -> tuple[list[str], dict[str, Any]]:
        """Axes as an input from opset `since` on, as an attribute before."""
        if self.opset >= since:
            return [self.ints(*axes)], {}
        return [], {"axes": list(axes)}

    def tame(self, x: Value) -> Value:
        """The same shape, values between -1 and 1."""
        return self.quiet("Tanh", x)

    def positive(self, x: Value) -> Value:
        """The same shape, values between 0.5 and 1.5."""
        gate = self.op("Sigmoid", x.name)
        return Value(self.op("Add", gate, self.number(0.5)), x.sizes)

    def partners(self, x: Value) -> list[Value]:
        """Live values that broadcast with `x` to the shape of `x`."""
        return [
            y
            for y in self.live
            if y.rank <= x.rank
            and all(a in (b, Size(1)) for a, b in zip(y.sizes[::-1], x.sizes[::-1], strict=False))
        ]

    def factors(self, n: int) -> list[int]:
        """`n` as a product of one to three factors."""
        divisors = [d for d in range(1, n + 1) if n % d == 0]
        first = self.pick(divisors)
        rest = n // first
        second = self.pick([d for d in range(1, rest + 1) if rest % d == 0])
        return [f for f in (first, second, rest // second) if f > 1] or [1]

    def window(
        self, x: Value, kernel: int, most: int = 2
    ) -> tuple[list[int], dict[str, Any], list[Size]]:
        """Kernel sizes, attributes and the sizes of space that a sliding window makes."""
        space = x.sizes[2:]
        taps = [min(self.upto(kernel), size.n) for size in space]
        stride = self.upto(most)
        low = [self.upto(k // 2, 0) for k in taps]
        high = low if self.often() else [self.upto(k // 2, 0) for k in taps]
        attrs: dict[str, Any] = {}
        if stride > 1 or self.half():
            attrs["strides"] = [stride] * len(taps)
        if any(low + high):
            attrs["pads"] = low + high
        made = [
            size.through(f"window{k},{a},{b},{stride}", (size.n + a + b - k) // stride + 1)
            for size, k, a, b in zip(space, taps, low, high, strict=True)
        ]
        return taps, attrs, made

    def finished(
        self, outputs: Sequence[Value], inputs: dict[str, tuple[Any, tuple[Any, ...]]]
    ) -> Any:
        """The model; `inputs` are type and declared shape by name."""
        own = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        graph = helper.make_graph(
            self.nodes,
            "random",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape
                )
                for name, (kind, shape) in inputs.items()
            ],
            [
                helper.make_tensor_value_info(
                    value.name, own, [None if s.symbol else s.n for s in value.sizes]
                )
                for value in outputs
            ],
            self.weights,
        )
        domains = sorted({node.domain for node in self.nodes} - {""})
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(domain, 1) for domain in domains]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def total(sizes: Sequence[Size]) -> Size:
    """The product of several sizes."""
    symbols = [size.symbol for size in sizes if size.symbol]
    fixed = prod(size.n for size in sizes if not size.symbol)
    n = prod(size.n for size in sizes)
    return Size(n, "*".join([*symbols, str(fixed)]) if symbols else "")


#: Values with more elements are not made larger.
LARGE = 600


def image(m: Maker, x: Value) -> bool:
    """(batch, static channels, one to three axes of space), in single or half precision."""
    return 3 <= x.rank <= 5 and x.static(1) and m.kind is not np.float64


def small(m: Maker, x: Value) -> bool:
    return prod(x.shape) <= LARGE


def rank(low: int, high: int = 9) -> Fits:
    return lambda m, x: low <= x.rank <= high


def single(m: Maker, x: Value) -> bool:
    return m.kind is np.float32


def static(m: Maker, x: Value) -> bool:
    return bool(x.axes())


def both(*needs: Fits) -> Fits:
    return lambda m, x: all(need(m, x) for need in needs)
