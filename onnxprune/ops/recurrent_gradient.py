"""Gradients of LSTM, GRU and RNN through time.

What enters the gates of all steps follows from X and the results of the step before at once; only
the states of an LSTM, and the way back, are run step by step. With z what enters the gates, dz is
collected along the way back, and dX = dz · W, dW = dzᵀ X, dR = dzᵀ H of the step before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, text_of
from onnxprune.types import Node, Tensor

__all__ = ["recurrent"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


class _Way(NamedTuple):
    """One direction: tensors by name.

    Attributes:
        x: (steps, batch, in), in the order of the steps.
        h: (steps, batch, units) results.
        before: the same one step earlier.
        w: (gates · units, in).
        r: (gates · units, units).
        bias: (2 · gates · units), of both products.
        start: (batch, units) the LSTM's cell at first.
        units: how many.
    """

    x: str
    h: str
    before: str
    w: str
    r: str
    bias: str
    start: str
    units: int


class _Back(NamedTuple):
    """Gradients by name.

    Attributes:
        z: (steps, batch, gates · units) of what X and W give.
        z_of_h: the same of what the result before and R give.
        states: of the first states.
        read: what the candidate's block of R multiplies, where it is not the result before.
    """

    z: str
    z_of_h: str
    states: list[str]
    read: str = ""


#: From gradients of the results at every step and of the last states.
_Cell = Callable[[Builder, _Way, Node, str, list[str]], _Back]


def _part(t: Builder, x: str, number: int, units: int, axis: int) -> str:
    """Block `number` of `units` positions."""
    return t.cut(x, axis, number * units, (number + 1) * units)


def _products(t: Builder, way: _Way, gates: int) -> tuple[str, str]:
    """(steps, batch, gates · units) what X and what the results before give, with biases."""
    found = []
    for k, (data, weight) in enumerate(((way.x, way.w), (way.before, way.r))):
        made = t.emit("MatMul", data, t.swapped(weight, 2))
        found.append(t.emit("Add", made, _part(t, way.bias, k, gates * way.units, 0)))
    return found[0], found[1]


def _bent(t: Builder, gate: str) -> str:
    """The slope of a sigmoid."""
    return t.mul(gate, t.minus(t.constant(1.0), gate))


def _flat(t: Builder, y: str) -> str:
    """The slope of a tanh."""
    return t.minus(t.constant(1.0), t.mul(y, y))


def _times(t: Builder, dz: str, weight: str) -> str:
    return t.emit("MatMul", dz, weight)


def _lstm(t: Builder, way: _Way, node: Node, dh: str, last: list[str]) -> _Back:
    """Gates i, o, f and the candidate c; C = f · C before + i · c, H = o · tanh(C)."""
    need(not node.attrs.get("input_forget", 0) and node.input(7) is None)
    from_x, from_h = _products(t, way, 4)
    z = t.emit("Add", from_x, from_h)
    i, o, f = (t.emit("Sigmoid", _part(t, z, k, way.units, 2)) for k in range(3))
    c = t.emit("Tanh", _part(t, z, 3, way.units, 2))

    def onward(states: list[str], at: list[str]) -> tuple[list[str], list[str]]:
        kept, put = at
        now = t.emit("Add", t.mul(kept, states[0]), put)
        return [now], [t.emit("Identity", states[0]), t.emit("Identity", now)]

    _, (earlier, cells) = t.scan(onward, [way.start], [f, t.mul(i, c)])
    shown = t.emit("Tanh", cells)

    def back(states: list[str], at: list[str]) -> tuple[list[str], list[str]]:
        to_h, to_c = states
        dh, slope, open_, keep, to_o, to_i, to_f, to_new = at
        whole = t.emit("Add", dh, to_h)
        cell = t.emit("Add", to_c, t.mul(whole, open_, slope))
        dz = t.emit(
            "Concat",
            *(t.mul(cell, to_i), t.mul(whole, to_o), t.mul(cell, to_f), t.mul(cell, to_new)),
            axis=1,
        )
        return [_times(t, dz, way.r), t.mul(cell, keep)], [t.emit("Identity", dz)]

    slopes = (
        *(t.mul(shown, _bent(t, o)), t.mul(c, _bent(t, i)), t.mul(earlier, _bent(t, f))),
        t.mul(i, _flat(t, c)),
    )
    scanned = [dh, _flat(t, shown), o, f, *slopes]
    firsts, (dz,) = t.scan(back, last, scanned, reverse=True)
    return _Back(dz, dz, firsts)


def _gru(t: Builder, way: _Way, node: Node, dh: str, last: list[str]) -> _Back:
    """Gates z, r and the candidate n; H = (1 - z) · n + z · H before."""
    from_x, from_h = _products(t, way, 3)
    after = bool(node.attrs.get("linear_before_reset", 0))
    units, both = way.units, t.emit("Add", from_x, from_h)
    z, r = (t.emit("Sigmoid", _part(t, both, k, units, 2)) for k in range(2))
    own = _part(t, way.r, 2, units, 0)  # of R, for the candidate
    held = _part(t, from_h, 2, units, 2) if after else way.before
    reset = read = t.mul(r, held)
    if not after:
        read = t.emit("MatMul", reset, t.swapped(own, 2))
        read = t.emit("Add", read, _part(t, way.bias, 5, units, 0))
    n = t.emit("Tanh", t.emit("Add", _part(t, from_x, 2, units, 2), read))
    gates = t.cut(way.r, 0, 0, 2 * units)

    def back(states: list[str], at: list[str]) -> tuple[list[str], list[str]]:
        dh, to_n, to_z, keep, to_r, open_ = at
        whole = t.emit("Add", dh, states[0])
        new, dz = t.mul(whole, to_n), t.mul(whole, to_z)
        if after:
            dr, inner = t.mul(new, to_r), t.mul(new, open_)
            through = _times(t, inner, own)
        else:
            inner = _times(t, new, own)
            dr, through = t.mul(inner, to_r), t.mul(inner, open_)
            inner = new
        some = t.emit("Concat", dz, dr, axis=1)
        before = t.total([t.mul(whole, keep), _times(t, some, gates), through])
        whole_z = t.emit("Concat", some, new, axis=1)
        return [before], [whole_z, t.emit("Concat", some, inner, axis=1)]

    to_n = t.mul(t.minus(t.constant(1.0), z), _flat(t, n))
    to_z = t.mul(t.minus(way.before, n), _bent(t, z))
    scanned = [dh, to_n, to_z, z, t.mul(held, _bent(t, r)), r]
    firsts, (made, of_h) = t.scan(back, last[:1], scanned, reverse=True)
    return _Back(made, of_h, firsts, "" if after else reset)


def _rnn(t: Builder, way: _Way, node: Node, dh: str, last: list[str]) -> _Back:
    """H = tanh(z)."""

    def back(states: list[str], at: list[str]) -> tuple[list[str], list[str]]:
        dh, slope = at
        dz = t.mul(t.emit("Add", dh, states[0]), slope)
        return [_times(t, dz, way.r)], [t.emit("Identity", dz)]

    firsts, (dz,) = t.scan(back, last[:1], [dh, _flat(t, way.h)], reverse=True)
    return _Back(dz, dz, firsts)


_CELLS: dict[str, _Cell] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def recurrent(t: Builder, node: Node, grads: Sequence[str | None]) -> Gradients:
    """Every direction by itself; usual activations, no clipping, sequences of full length."""
    x, w, r = (tensor_of(node, k) for k in range(3))
    units, ways, directions = r.size(2) or 0, w.size(0) or 0, text_of(node, "direction", "forward")
    named = [a.decode() if isinstance(a, bytes) else a for a in node.attrs.get("activations") or ()]
    usual = [name.lower() for name in named] in ([], _USUAL[node.op] * ways)
    need(units and usual and not node.attrs.get("clip") and not node.attrs.get("layout", 0))
    need(node.input(4) is None and x.rank == 3)
    names = [tensor.name if tensor is not None else "" for tensor in node.inputs]
    whole = t.results(node.op, *names, shown=(True,), **node.attrs)[0]
    size, zeros = _states(t, node, x, ways, units)
    bias = node.input(3)
    biases = bias.name if bias else t.constant(np.zeros((ways, size)))
    starts = [tensor.name if (tensor := node.input(k)) is not None else zeros for k in (5, 6)]
    found = []
    for k in range(ways):
        turned = directions == "reverse" or k == 1
        h = _turned(t, _row(t, whole, k, 1), turned)
        first = t.along("Unsqueeze", _row(t, starts[0], k), [0])
        before = t.emit("Concat", first, t.cut(h, 0, 0, -1), axis=0)
        own = [_row(t, name, k) for name in (w.name, r.name, biases, starts[1])]
        way = _Way(_turned(t, x.name, turned), h, before, own[0], own[1], own[2], own[3], units)
        dh = _turned(t, _row(t, grads[0], k, 1), turned) if grads[0] else t.scaled(h, 0.0)
        given = [grads[j] if len(grads) > j else None for j in (1, 2)]
        last = [_row(t, grad or zeros, k) for grad in given]
        found.append(_of_inputs(t, way, _CELLS[node.op](t, way, node, dh, last), turned))
    return _gathered(t, node, found)


def _states(t: Builder, node: Node, x: Tensor, ways: int, units: int) -> tuple[int, str]:
    """How many biases a direction has, and states (directions, batch, units) of zeros."""
    batch = t.emit("Gather", t.sizes(x.name), t.constant([1], np.int64))
    outer, inner = (t.constant([n], np.int64) for n in (ways, units))
    shape = t.emit("Concat", outer, batch, inner, axis=0)
    return 2 * _GATES[node.op] * units, t.emit("Expand", t.constant(0.0), shape)


def _row(t: Builder, x: str, number: int, axis: int = 0) -> str:
    """One direction's part of a tensor."""
    return t.emit("Gather", x, t.constant(number, np.int64), axis=axis)


def _turned(t: Builder, x: str, turned: bool) -> str:
    """The steps from the last one to the first, if so."""
    if not turned:
        return x
    bounds = ([-1], [-(2**62)], [0], [-1])
    return t.emit("Slice", x, *(t.constant(v, np.int64) for v in bounds))


def _of_inputs(t: Builder, way: _Way, back: _Back, turned: bool) -> list[str]:
    """Gradients of X, W, R, B and the first states, of one direction."""
    to_w, to_r = _product(t, back.z, way.x), _product(t, back.z_of_h, way.before)
    if back.read:
        own = _product(t, _part(t, back.z_of_h, 2, way.units, 2), back.read)
        to_r = t.emit("Concat", t.cut(to_r, 0, 0, 2 * way.units), own, axis=0)
    sums = [t.along("ReduceSum", each, [0, 1], keep=False) for each in (back.z, back.z_of_h)]
    to_x = _turned(t, _times(t, back.z, way.w), turned)
    return [to_x, to_w, to_r, t.emit("Concat", *sums, axis=0), *back.states]


def _product(t: Builder, dz: str, data: str) -> str:
    """Dzᵀ times data, over all steps and samples."""
    a, b = t.emit("Transpose", dz, perm=[2, 0, 1]), t.emit("Transpose", data, perm=[2, 0, 1])
    flat = t.constant([0, -1], np.int64)
    a, b = t.emit("Reshape", a, flat), t.emit("Reshape", b, flat)
    return t.emit("MatMul", a, t.swapped(b, 2))


def _gathered(t: Builder, node: Node, ways: Sequence[Sequence[str]]) -> Gradients:
    """Gradients of all inputs from those of each direction."""
    stacked = [
        t.emit("Concat", *(t.along("Unsqueeze", name, [0]) for name in names), axis=0)
        for names in zip(*(way[1:] for way in ways), strict=True)
    ]
    found: Gradients = [t.total([way[0] for way in ways]), *stacked[:3], None, *stacked[3:]]
    return found[: len(node.inputs)]
