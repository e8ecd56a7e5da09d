"""Channels that provably contribute nothing, and what must be folded elsewhere to drop them.

A channel goes if everything that reads it has zero weights there, or if it always carries the
same number c. Where c = 0 nothing is left to do. Otherwise its readers' contribution W·c is added
to their bias; a reader with zero padding sees c only inside the border, so there one channel of
the group that carries c′ ≠ 0 stays and takes over the others' weights, W′ += W·c/c′: exact at the
border too. What this kills upstream goes as well, until nothing more does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ops import constants_products, dequantize
from onnxprune.surgery.constant_propagation import constants
from onnxprune.types import Axis, Floats, Group, Ints, Kernel, Node, Read

__all__ = ["TOLERANCE", "Dead", "find"]

#: Relative difference to the original: the same sums in another order, single precision.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Dead:
    """Channels to keep of each group (n_channels,), and new content of weights by name."""

    kept: list[NDArray[np.bool_]]
    patches: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class _Reader:
    """A node that reads a group's channels: which weights (out, in) count, what arrives (in,).

    `direct`: its weight is stored as the real numbers it stands for, for this node alone, so that
    it can take over what other channels bring.
    """

    node: Node
    kernel: Kernel
    used: NDArray[np.bool_]
    arrives: Floats
    positions: Ints
    direct: bool
    foldable: bool


@dataclass
class _Work:
    """Weights as patched so far."""

    read: Read
    changed: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def weight(self, name: str) -> NDArray[np.float64]:
        """A weight to change in place, in double precision."""
        if name not in self.changed:
            stored = self.read(name)
            assert stored is not None
            self.changed[name] = stored.astype(np.float64)
        return self.changed[name]


def find(analysis: Analysis, fold: bool = True) -> Dead:
    """Search all groups until no more channels can go.

    Without `fold` no kept weight changes: channels that carry a constant other than zero stay.
    """
    read = dequantize.contents(analysis.nodes, analysis.read)
    values = constants(analysis.nodes, read)
    work = _Work(analysis.read)
    kept: list[NDArray[np.bool_]] = [np.ones(g.channels, bool) for g in analysis.groups]
    alive: dict[str, NDArray[np.bool_]] = {}
    crossed = set(analysis.cost.crossings[:2].ravel().tolist())
    while True:
        before = sum(int(mask.sum()) for mask in kept)
        for g, group in enumerate(analysis.groups):
            heard = group.inexact or g in analysis.centred
            readers = None if heard else _readers(analysis, group, read, values)
            if readers is not None:
                # what two groups share must not be folded twice
                own = work if fold and g not in crossed else None
                summed = _summed(analysis, group, values)
                kept[g] = _sift(kept[g], summed, readers, alive, own)
        alive = _alive_rows(analysis, kept)
        if sum(int(mask.sum()) for mask in kept) == before:
            break
    return Dead(kept, work.changed)


def _readers(
    analysis: Analysis, group: Group, read: Read, values: Mapping[Axis, Floats]
) -> list[_Reader] | None:
    """Everything that reads the group's channels; None if some of it cannot be looked into."""
    at = dict(group.axes())
    uses = Counter(t.name for n in analysis.nodes for t in n.inputs if t is not None)
    readers, known = [], set[Axis]()
    for node, kernel in ((n, kernel) for n in analysis.nodes for kernel in ops.kernels_of(n)):
        weight, data = node.inputs[kernel.index], kernel.operand(node)
        if weight is None or kernel.in_axis is None:
            continue
        if data is None or data.at(kernel.reads) not in at:
            if weight.at(kernel.in_axis) in at:
                return None
            continue
        content = read(weight.name)
        width = data.size(kernel.reads)
        if content is None or width is None or content.ndim < 2:
            return None
        form = ops.LAYERS.get(node.op)
        if form is not None and form.kind == "dense" and content.ndim != 2:
            return None
        used = constants_products.used_weights(node, kernel, content, width) != 0
        own = analysis.read(weight.name)
        direct = own is not None and own.dtype == content.dtype and uses[weight.name] == 1
        if kernel.recurrent:  # what a unit tells itself alone, nobody hears
            np.fill_diagonal(used, False)
        arrives = values.get(data.at(kernel.reads), np.full(width, np.nan))
        foldable = direct and _takes_constants(analysis, node, kernel, content, uses)
        places = at[data.at(kernel.reads)]
        readers.append(_Reader(node, kernel, used, arrives, places, direct, foldable))
        known.add(weight.at(kernel.in_axis))
    return None if any(_sums_up(node, at.keys() - known) for node in analysis.nodes) else readers


def _sums_up(node: Node, axes: Set[Axis]) -> bool:
    """Whether a node multiplies one of the axes by what is stored, and its results lack it.

    `axes` are a group's without those of weights that are known: a vector is no layer's weight.
    `_summed` looks after sums of activations, and what is added to them.
    """
    if node.op in ops.SUMS and any(ops.SUMS[node.op](node)):
        return False
    inputs = [x for x in node.inputs if x is not None]
    stored, fed = (
        any(x.at(axis) in axes for x in inputs if x.constant is kind for axis in range(x.rank))
        for kind in (True, False)
    )
    made = any(y.at(axis) in axes for y in node.outputs for axis in range(y.rank))
    return stored and fed and not made


def _takes_constants(
    analysis: Analysis,
    node: Node,
    kernel: Kernel,
    weight: NDArray[Any],
    uses: Mapping[str, int],
) -> bool:
    """Whether what a constant channel adds everywhere can go into a bias of the node's own."""
    bias = node.input(kernel.bias) if kernel.bias is not None else None
    stored = analysis.read(bias.name) if bias is not None else None
    if bias is None or stored is None or constants_products.padded(node):
        return False
    form = ops.LAYERS.get(node.op)
    if form is not None and form.kind == "transposed":
        return False
    return bool(stored.size == weight.shape[kernel.out_axis] and uses[bias.name] == 1)


def _summed(analysis: Analysis, group: Group, values: Mapping[Axis, Floats]) -> NDArray[np.bool_]:
    """(n_channels,) which channels are always zero wherever activations are summed over them.

    One factor that is zero suffices; what an operator adds to a factor itself must be zero too.
    """
    at, zero = dict(group.axes()), np.ones(group.channels, bool)
    for node in analysis.nodes:
        pairs = list(ops.SUMS[node.op](node)) if node.op in ops.SUMS else []
        factors, added = [], []
        for index, x in enumerate(node.inputs if pairs else ()):
            summed = {axis % max(x.rank, 1) for k, axis in pairs if k == index} if x else set()
            for axis in range(x.rank if x is not None else 0):
                if x is not None and x.at(axis) in at:
                    value = values.get(x.at(axis), np.full(x.size(axis) or 0, np.nan))
                    never = (value[at[x.at(axis)]] == 0).all(1)
                    if axis in summed:
                        factors.append(never)
                    elif not summed:
                        added.append(never)
        if factors:
            zero &= np.logical_and.reduce([np.logical_or.reduce(factors), *added])
    return zero


def _sift(
    kept: NDArray[np.bool_],
    zero: NDArray[np.bool_],
    readers: Sequence[_Reader],
    alive: Mapping[str, NDArray[np.bool_]],
    work: _Work | None,
) -> NDArray[np.bool_]:
    """Drop what can go now, folding what it carries; at least one channel stays.

    `zero` (n_channels,) may go as far as sums of activations are concerned.
    """
    going, needs = kept & zero, list[NDArray[np.bool_]]()
    for reader in readers:
        rows = alive.get(reader.node.outputs[0].name)
        known = rows is not None and len(rows) == len(reader.used)  # its results may be fewer
        used = reader.used[rows] if known else reader.used
        reads = np.asarray(used.any(0))[reader.positions]  # (n_channels, k)
        number = reader.arrives[reader.positions]
        silent = np.asarray(~reads | (number == 0))
        going &= (silent | ~np.isnan(number)).all(1)
        if work is None:
            going &= silent.all(1)
        if reader.foldable:
            continue
        grouped = int(reader.node.attrs.get("group", 1)) > 1  # a column serves several channels
        if grouped or not reader.direct:
            going &= silent.all(1)
        needs.append(~silent)
    carried = np.concatenate(needs, 1) if needs else np.zeros((len(kept), 0), bool)
    carrier = _carrier(going, carried)
    if carrier is not None:
        going &= ~(carried & ~carried[carrier]).any(1)
        going[carrier] = False
    if (going == kept).all():
        going[np.flatnonzero(going)[:1]] = False
    if work is not None:
        for reader in readers:
            _fold(reader, np.flatnonzero(going), carrier, work)
    left: NDArray[np.bool_] = kept & ~going
    return left


def _carrier(going: NDArray[np.bool_], carried: NDArray[np.bool_]) -> int | None:
    """The channel that stays to carry the others' constants into padded readers.

    `carried` (n_channels, k) marks where in all readers together a channel's constant counts.
    """
    needs = carried.sum(1) * going
    return int(needs.argmax()) if needs.any() else None


def _fold(reader: _Reader, gone: Ints, carrier: int | None, work: _Work) -> None:
    """Add what the removed channels bring to the bias, or to the carrier's weights."""
    positions = reader.positions[gone]
    numbers = np.nan_to_num(reader.arrives[positions])
    if not numbers.any():
        return
    node, kernel = reader.node, reader.kernel
    if reader.foldable and kernel.bias is not None:
        bias = node.inputs[kernel.bias]
        assert bias is not None
        target = work.weight(bias.name)
        scale = float(node.attrs.get("alpha", 1.0)) / float(node.attrs.get("beta", 1.0))
        weight = node.inputs[kernel.index]
        stored = None if weight is None else work.read(weight.name)
        assert stored is not None
        taps = constants_products.summed_taps(node, kernel, stored, len(reader.arrives))
        brought = taps[:, positions.ravel()] @ numbers.ravel()
        target += (scale * brought).reshape(target.shape)
    elif carrier is not None:
        weight = node.inputs[kernel.index]
        assert weight is not None and kernel.in_axis is not None
        columns = np.moveaxis(work.weight(weight.name), kernel.in_axis, 0)
        for k, home in enumerate(reader.positions[carrier]):
            carries = np.nan_to_num(reader.arrives[home])
            if numbers[:, k].any() and carries:  # else none of them is read here
                share = numbers[:, k] / carries
                columns[home] += np.tensordot(share, columns[positions[:, k]], 1)


def _alive_rows(
    analysis: Analysis, kept: Sequence[NDArray[np.bool_]]
) -> dict[str, NDArray[np.bool_]]:
    """For every reader's result which of its channels are still there."""
    gone: dict[Axis, Ints] = {}
    for group, mask in zip(analysis.groups, kept, strict=True):
        for axis, positions in () if mask.all() else group.axes():
            lost = positions[~mask].ravel()
            gone[axis] = np.concatenate([gone[axis], lost]) if axis in gone else lost
    rows: dict[str, NDArray[np.bool_]] = {}
    for node in analysis.nodes:
        kernel = next(iter(ops.kernels_of(node)), None)
        y = node.outputs[0] if node.outputs else None
        if kernel is not None and y is not None and y.rank > 0 and y.at(kernel.channel) in gone:
            rows[y.name] = np.ones(y.size(kernel.channel) or 0, bool)
            rows[y.name][gone[y.at(kernel.channel)]] = False
    return rows
