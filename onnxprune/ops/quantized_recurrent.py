"""An LSTM on integers, as onnxruntime's quantiser writes it: a unit is one offset everywhere.

It quantises the data and, step after step, its state by their range, which always includes zero.
A unit with zeroed weights adds its state to that, which is zero at every step if it starts at zero
and if its activations leave zero at zero. Where they do not, units stay whole; the masks of the
proof let dead units start at zero.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.ops.facets import PAIRS, state
from onnxprune.ops.quantized import MS
from onnxprune.ops.recurrent import leaves_zero, macs_recurrent
from onnxprune.ops.registry import (
    by_key,
    couples,
    jumps,
    kernel,
    macs,
    quantized,
    same,
    shrinks,
    sums,
)
from onnxprune.types import Coupling, Edit, Kept, Kernel, Node, Quantized, Tensor

LSTM = f"{MS}DynamicQuantizeLSTM"
GATES = 4
#: Inputs: initial states; per weight its scale and zero point; biases and peepholes with how many
#: blocks of units they hold.
STATES = (5, 6)
PARAMETERS = {1: (8, 9), 2: (10, 11)}
VECTORS = {3: 2 * GATES, 7: 3}


def _units(node: Node) -> int:
    """The number of units, 0 where a size that depends on it is not known or does not fit."""
    w, r = node.input(1), node.input(2)
    if w is None or r is None or not (w.constant and r.constant):
        return 0
    units = r.size(1) or 0
    states = [t for t in (*map(node.input, STATES), *node.outputs) if t is not None]
    fits = w.size(2) == r.size(2) == GATES * units and all(t.size(-1) == units for t in states)
    for index, blocks in VECTORS.items():
        part = node.input(index)
        fits = fits and (part is None or part.size(1) == blocks * units)
    for part in _parameters(node):
        fits = fits and part.size(0) == w.size(0)
        fits = fits and (part.rank == 1 or part.size(1) == GATES * units)
    return units if fits else 0


def _parameters(node: Node) -> Iterator[Tensor]:
    """Scales and zero points: (dirs), or (dirs, gates · units)."""
    every = (node.input(k) for pair in PARAMETERS.values() for k in pair)
    yield from (part for part in every if part is not None)


@couples(LSTM)
def lstm(node: Node) -> Iterator[Coupling]:
    """W (dirs, in, gates · units) reads the data's features, R (dirs, units, gates · units)."""
    x, w, r = (node.input(k) for k in range(3))
    units = _units(node)
    if x is None or w is None or r is None or not units:
        return
    yield from same(w, 1, x, 2)
    if not leaves_zero(node, "LSTM"):
        return
    unit, each = r.at(1), np.arange(units)
    gates = [w.at(2), r.at(2), *(part.at(1) for part in _parameters(node) if part.rank == 2)]
    for axis in gates:
        yield by_key(axis, np.tile(each, GATES), unit, each)
    for index, blocks in VECTORS.items():
        part = node.input(index)
        if part is not None:
            yield by_key(part.at(1), np.tile(each, blocks), unit, each)
    for held in (*map(node.input, STATES), *node.outputs):
        if held is not None:
            yield Coupling(held.at(-1), unit)


@sums(LSTM)
def ranges(node: Node) -> Iterator[tuple[int, int]]:
    """Every element of the data may set its range; a unit starts at zero."""
    x = node.inputs[0]
    yield from ((0, k) for k in range(x.rank if x is not None else 0))
    for index in STATES:
        state = node.input(index)
        if state is not None:
            yield index, state.rank - 1


@shrinks(LSTM)
def shrink_lstm(node: Node, kept: Kept) -> Edit:
    """`hidden_size` is the number of units."""
    r = node.inputs[2]
    assert r is not None
    units = len(kept(r, 1))
    return Edit() if units == r.size(1) else Edit(attrs={"hidden_size": units})


@kernel(LSTM)
def kernel_lstm(_node: Node) -> tuple[Kernel, ...]:
    """W reads the data, R the state of the step before; both make all gates of each unit."""
    return (
        Kernel(1, 2, 1, channel=-1, blocks=GATES),
        Kernel(2, 2, 1, channel=-1, blocks=GATES, recurrent=True),
    )


@quantized(LSTM)
def quantized_lstm(node: Node) -> Iterator[Quantized]:
    """One scale for each direction, or for each column of each direction."""
    for weight, (scale, zero_point) in PARAMETERS.items():
        part = node.input(scale)
        if part is not None:
            yield Quantized(weight, scale, zero_point, part.rank - 1)


jumps(LSTM)  # it quantises what it reads
macs(LSTM)(macs_recurrent)
state(PAIRS, tuple((Quantized(weight, *found), None) for weight, found in PARAMETERS.items()), LSTM)
