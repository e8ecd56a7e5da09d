"""Recurrent layers: a hidden unit is one offset in all gates and all directions.

Rows of W, R and B make a unit gate by gate, its own state carries it through time, and column u of
R reads it one step later. All else works element by element: whatever activations, clipping,
peepholes and given initial states make of a dead unit, only that column could tell the survivors,
and it is zero in the masked reference. So removal is exact for every variant if R is stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops import recurrent_gradient
from onnxprune.ops.constants import Numbers, constant
from onnxprune.ops.facets import FUNCTIONS
from onnxprune.ops.gradients import joint_gradient
from onnxprune.ops.registry import by_key, couples, kernel, macs, same, shrinks
from onnxprune.types import Axis, Coupling, Edit, Floats, Frozen, Kept, Kernel, Node, Tensor, Work

#: Blocks of units in the second axis of W and R.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: The block that makes the new state, and the activations, by place, that it passes through.
_CANDIDATE = {"LSTM": (3, (1, 2)), "GRU": (2, (1,)), "RNN": (0, (0,))}
_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
#: Activations that are zero at zero; one of them is known to recurrent layers alone.
_ODD = frozenset(op.lower() for op, fact in FUNCTIONS.items() if fact.zero) | {"scaledtanh"}


class _Layer(NamedTuple):
    """X (seq, batch, in), W (dirs, gates · units, in), R (dirs, gates · units, units)."""

    x: Tensor
    w: Tensor
    r: Tensor
    gates: int
    units: int

    def blocks(self, node: Node) -> Iterator[tuple[Tensor, int]]:
        """Tensors (dirs, n · units), n blocks of units each: W, R, and, if given, B and P."""
        optional = (node.input(3), 2 * self.gates), (node.input(7), 3)
        yield from ((self.w, self.gates), (self.r, self.gates))
        yield from ((tensor, n) for tensor, n in optional if tensor is not None)

    def states(self, node: Node) -> Iterator[Tensor]:
        """Tensors (…, units): initial states and results; in either layout units come last."""
        yield from (t for t in (node.input(5), node.input(6), *node.outputs) if t is not None)


def _layer(node: Node) -> _Layer | None:
    """The layer, None where a size that depends on the number of units is not known."""
    x, w, r = node.input(0), node.input(1), node.input(2)
    if x is None or w is None or r is None:
        return None
    units = r.size(2)
    if not units:
        return None
    layer = _Layer(x, w, r, GATES[node.op], units)
    fits = all(t.size(1) == n * units for t, n in layer.blocks(node))
    fits = fits and all(t.size(-1) == units for t in layer.states(node))
    return layer if fits else None


@couples(*GATES)
def recurrent(node: Node) -> Iterator[Coupling | Frozen]:
    """One offset in every gate block is one unit; W reads the data's features."""
    layer = _layer(node)
    if layer is None:
        return
    if layer.w.constant:
        yield from same(layer.w, 2, layer.x, 2)
    if not layer.r.constant:
        yield Frozen(layer.r.at(2), "R is computed", node.name, "store R in the model")
        return
    unit, each = layer.r.at(2), np.arange(layer.units)
    for tensor, n in layer.blocks(node):
        yield by_key(tensor.at(1), np.tile(each, n), unit, each)
    for tensor in layer.states(node):
        yield Coupling(tensor.at(-1), unit)


@shrinks(*GATES)
def shrink_recurrent(node: Node, kept: Kept) -> Edit:
    """`hidden_size` is the number of units."""
    r = node.inputs[2]
    assert r is not None
    units = len(kept(r, 2))
    return Edit() if units == r.size(2) else Edit(attrs={"hidden_size": units})


@macs(*GATES)
def macs_recurrent(node: Node) -> tuple[Work, ...]:
    """Every step of every sequence times W, and times R."""
    x, *weights = node.inputs[:3]
    if x is None or x.sample is None or x.rank != 3:
        return ()
    steps = x.sample[0] * x.sample[1]
    return tuple(
        Work(float(steps * math.prod(w.sample)), (w.at(1), w.at(2)))
        for w in weights
        if w is not None and w.sample is not None
    )


@kernel(*GATES)
def kernel_recurrent(node: Node) -> tuple[Kernel, ...]:
    """W reads the data, R the state of the step before; both make all gates of each unit."""
    blocks = GATES[node.op]
    return (
        Kernel(1, 1, 2, channel=-1, blocks=blocks),
        Kernel(2, 1, 2, channel=-1, blocks=blocks, recurrent=True),
    )


@constant(*GATES)
def constant_recurrent(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Units that are zero in all directions at every step."""
    zero = _zero_units(node, numbers)
    if zero is not None:
        yield from ((y.at(-1), np.where(zero, 0.0, np.nan)) for y in node.outputs)


def _zero_units(node: Node, numbers: Numbers) -> NDArray[np.bool_] | None:
    """(units,) whether a unit is always zero, None where unknown.

    It is if it starts at zero and its candidate reads nothing but zeros: z or f of the gates then
    scale zeros. By induction over time, so units that only read each other's zeros count too.
    """
    layer = _layer(node)
    stored = [numbers.read(t.name) for t, _ in layer.blocks(node)] if layer is not None else []
    block, _ = _CANDIDATE[node.op]
    if layer is None or any(part is None for part in stored) or not leaves_zero(node, node.op):
        return None
    n_dirs, gates, units = layer.r.size(0) or 1, layer.gates, layer.units
    w, r = (np.asarray(p).reshape(n_dirs, gates, units, -1)[:, block] for p in stored[:2])
    zero = ~(w[..., numbers.of(layer.x, 2) != 0] != 0).any(-1)
    if node.input(3) is not None:
        zero &= ~(np.asarray(stored[2]).reshape(n_dirs, 2, gates, units)[:, :, block] != 0).any(1)
    for start in (node.input(5), node.input(6)):
        if start is not None:
            zero &= numbers.of(start, start.rank - 1) == 0
    while (fed := zero & ((r != 0) & ~zero[:, None]).any(-1)).any():
        zero &= ~fed
    found: NDArray[np.bool_] = zero.all(0)
    return found


def leaves_zero(node: Node, kind: str) -> bool:
    """Whether the activations that a new state passes through leave zero at zero.

    `kind` is the plain operator that the node is.
    """
    places, named = _CANDIDATE[kind][1], node.attrs.get("activations") or _ACTIVATIONS[kind]
    step = len(_ACTIVATIONS[kind])
    lowered = [name.lower() for name in named]
    each = [lowered[k : k + step] for k in range(0, len(lowered), step)]  # direction
    return all(len(names) == step and {names[p] for p in places} <= _ODD for names in each)


joint_gradient(*GATES)(recurrent_gradient.recurrent)
