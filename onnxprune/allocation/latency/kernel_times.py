"""Predict how long a model takes from what its kernels compute: whole blocks of channels.

A kernel that works on blocks of B channels computes ⌈n / B⌉ blocks whatever n is. What it takes is
counted in multiply-accumulates of full blocks. A convolution reads its input once for up to
`TOGETHER` blocks of output channels, which costs as much as some further blocks, so that few
blocks are dearer than their share. Less than a block is read as it lies, channel by channel, and a
pool takes whole blocks alone: tensors are then brought from one layout to the other, at a price for
each number. Every operator has a price for being called, and one for each number that it writes.
The prices were fitted to 39 random plans of five models on one thread of a processor with AVX-512;
30 plans that were not among those deviate by 0.04 of the original's time (root mean square). Prices
are the same for all machines, so that a plan depends on nothing but the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from onnxprune import ops
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.allocation.latency.time_model import Move
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.cost import CostModel, axis_numbers
from onnxprune.types import Axis, Floats, Group, Ints, Kernel, Node, Tensor

__all__ = ["KernelTimes", "group_blocks", "kernel_times"]

#: Blocks of output channels that a convolution computes at once, and what reading for them costs,
#: in blocks; windows of one place compute less with what is read.
TOGETHER, READING, READING_PLACES = 4, 2.3, 3.4
#: Channels that a fast convolution takes must be a multiple of this; others take it as a product
#: of matrices that are laid out first, which takes so much longer.
ALIGNED, UNALIGNED = 4, 1.6
#: What a call costs, a number that is written, and one that is brought into the other layout, in
#: multiply-accumulates.
CALL, WRITTEN, BROUGHT = 1.2e5, 17.0, 82.0
#: What tables say of a number of channels: the work, what is added to it, whether it is odd, and
#: what it costs to bring it into the other layout.
WORK, REST, ODD, LAYOUT = range(4)
#: The rank of the tensors that keep channels in blocks.
IMAGES = 4


class _Work(NamedTuple):
    """One kernel: MACs, numbers written and read, the cost model's axes it makes and reads.

    An axis is -1 where there is none that may get smaller; a depthwise convolution and a pool read
    what they make. `block` is that of its kind, `reading` what reading costs in blocks, 0 for all
    but convolutions.
    """

    macs: float
    written: float
    taken: float
    out: int
    read: int
    out_full: float
    read_full: float
    block: int
    reading: float


class _Kernels(NamedTuple):
    """Some kernels: their numbers, and where the axes that they make and read stand in sizes."""

    number: Ints
    out: Ints
    read: Ints


class _Table(NamedTuple):
    """What kernels take: (4, n) by `WORK`, …, `LAYOUT`; where each kernel's entries begin."""

    start: Ints
    entries: Floats

    def at(self, kernels: Ints, sizes: Ints) -> Floats:
        """(4, …, n_kernels) at `sizes` (…, n_kernels); that of no axis is one."""
        found: Floats = self.entries[:, self.start[kernels] + sizes]
        return found


class _Concerned(NamedTuple):
    """What a group changes: kernels, the axes these see, and which of those the group touches."""

    kernels: _Kernels
    seen: Ints
    at: Ints


@dataclass(frozen=True)
class KernelTimes:
    """Latency in shares of the whole model's, for each kernel one column of `work` (n_kernels,).

    It stands where a measured `TimeModel` does.
    """

    cost: CostModel
    macs: Floats
    written: Floats
    taken: Floats
    out: Ints
    read: Ints
    full: tuple[Floats, Floats]
    block: Ints
    reading: Floats

    def at(self, widths: Ints) -> float:
        """The share of the original's latency at `widths` (n_groups,)."""
        return float(self._spent(self._extended(widths), self._all).sum() / self._whole)

    def parts(self, group: int) -> Ints:
        """Numbers of the kernels whose work changes with a group."""
        return self._concerned[group].kernels.number

    def change(self, _widths: Ints, sizes: Floats, move: Move) -> Floats:
        """(n_moves,) what it adds to the share if one group goes to each of some widths.

        Args:
            sizes: (n_axes,) sizes of the cost model's axes where all groups stand.
            move: where one of them goes.
        """
        concerned = self._concerned[move.group]
        here = np.append(sizes, 1.0)[concerned.seen]
        each = np.repeat(here[None], 1 + len(move.widths), 0)
        each[1:, concerned.at] = move.sizes
        spent = self._spent(each, concerned.kernels).sum(-1)
        found: Floats = (spent[1:] - spent[0]) / self._whole
        return found

    @cached_property
    def _concerned(self) -> list[_Concerned]:
        """For each group the kernels whose work changes with it."""
        found = []
        for axes, _, _ in self.cost.touched:
            number = np.flatnonzero(np.isin(self.out, axes) | np.isin(self.read, axes))
            seen = np.unique(np.concatenate([self.out[number], self.read[number], axes]))
            out, read, at = (
                np.searchsorted(seen, a) for a in (self.out[number], self.read[number], axes)
            )
            found.append(_Concerned(_Kernels(number, out, read), seen, at))
        return found

    @cached_property
    def _all(self) -> _Kernels:
        return _Kernels(np.arange(len(self.macs)), self.out, self.read)

    @cached_property
    def _whole(self) -> float:
        full = self._extended(self.cost.channels)
        return float(self._spent(full, self._all).sum()) or 1.0

    def _extended(self, widths: Ints) -> Floats:
        """(n_axes + 1,) sizes of all axes; the last one stands for none."""
        return np.append(self.cost.axis_sizes(widths), 1.0)

    def _spent(self, sizes: Floats, kernels: _Kernels) -> Floats:
        """(…, n_kernels) what some kernels take at sizes (…, n)."""
        index = sizes.astype(np.int64)
        out = self._making.at(kernels.number, index[..., kernels.out])
        read = self._reading.at(kernels.number, index[..., kernels.read])
        slow = np.where(out[ODD] + read[ODD] > 0, UNALIGNED, 1.0)
        added = (out[REST] + out[LAYOUT]) * read[REST] + read[LAYOUT] * (out[REST] > 0)
        spent: Floats = out[WORK] * read[WORK] * slow + added
        return spent

    @cached_property
    def _making(self) -> _Table:
        """What kernels take at each number of channels that they make, where all are read."""
        k, n, start = self._counted(self.out)
        full, block, reading = self.full[0][k], self.block[k], self.reading[k]
        n = np.where(self.out[k] >= 0, n, full)
        work = self.macs[k] * _made(n, block, reading) / _made(full, block, reading)
        rest = CALL + WRITTEN * self.written[k] * n / full
        odd = (reading > 0) & (n % ALIGNED > 0) & (n != full)
        pooled = (self.macs[k] == 0) & (n % block > 0)
        layout = pooled * BROUGHT * self.taken[k] * n / full
        return _Table(start, np.stack([work, rest, odd, layout]) * (n > 0))

    @cached_property
    def _reading(self) -> _Table:
        """The share of it that they take at each number of channels that they read."""
        k, n, start = self._counted(self.read)
        full, block, reading = self.full[1][k], self.block[k], self.reading[k]
        own = self.read[k] >= 0
        n = np.where(own, n, full)
        work = _read(n, block, reading) / _read(full, block, reading)
        odd = (reading > 0) & (n % ALIGNED > 0) & (n >= block) & (n != full)
        as_it_lies = (reading > 0) & own & (n < block)
        layout = as_it_lies * (CALL / 2 + BROUGHT * self.taken[k] * n / full)
        return _Table(start, np.stack([work, np.ones(len(n)), odd, layout]) * (n > 0))

    def _counted(self, axes: Ints) -> tuple[Ints, Floats, Ints]:
        """For each kernel all sizes of its axis, one behind the other.

        Returns:
            The kernel and the size of each entry, and where the entries of each kernel begin.
        """
        counts = 1 + np.append(self.cost.sizes, 1.0)[axes].astype(np.int64)
        start = np.cumsum(counts) - counts
        kernel = np.repeat(np.arange(len(counts)), counts)
        return kernel, (np.arange(counts.sum()) - start[kernel]).astype(float), start


def _made(n: Floats, block: Ints, reading: Floats) -> Floats:
    """(n,) channels that are computed where `n` are made."""
    blocks = np.ceil(n / block)
    computed: Floats = (blocks + reading * np.ceil(blocks / TOGETHER)) * block
    return computed


def _read(n: Floats, block: Ints, reading: Floats) -> Floats:
    """(n,) channels that are read where `n` are there: less than a block as they lie."""
    whole = np.ceil(n / block) * block
    found: Floats = np.where((reading > 0) & (n >= block), whole, n)
    return found


def kernel_times(analysis: Analysis, blocks: Blocks) -> KernelTimes:
    """Count what a model's kernels compute.

    Args:
        analysis: the model.
        blocks: of the runtime that will run it.
    """
    number = axis_numbers(analysis.groups)
    works = [work for node in analysis.nodes for work in _works(node, number, blocks)]
    columns: Sequence[Sequence[float]] = list(zip(*works, strict=True)) or [[]] * 9
    macs, written, taken, out, read, out_full, read_full, block, reading = (
        np.array(column, float) for column in columns
    )
    out, read, block = (column.astype(np.int64) for column in (out, read, block))
    full = out_full, read_full
    return KernelTimes(analysis.cost, macs, written, taken, out, read, full, block, reading)


def group_blocks(times: KernelTimes, groups: Sequence[Group]) -> list[int]:
    """For each group the channels that fill a block of every kernel that has steps there."""
    number = axis_numbers(groups)
    blocks: dict[int, int] = {}
    for k, block in enumerate(times.block.tolist()):
        axes = (times.out[k], times.read[k]) if times.reading[k] else (times.out[k],)
        for axis in axes:
            blocks[int(axis)] = max(blocks.get(int(axis), 1), block)
    found = []
    for group in groups:
        own = [max(1, blocks.get(number[axis], 1) // at.shape[1]) for axis, at in group.axes()]
        found.append(max(own, default=1))
    return found


def _works(node: Node, number: Mapping[Axis, int], blocks: Blocks) -> Iterator[_Work]:
    """Every product of a node, or that it is a pool."""
    kernels, products = ops.kernels_of(node), ops.works_of(node)
    for k, work in enumerate(products):
        kernel = kernels[k] if k < len(kernels) else None
        weight = None if kernel is None else node.input(kernel.index)
        written = _numbers(node.outputs[0])
        if kernel is None or weight is None or weight.sample is None:
            axes = [number.get(axis, -1) for axis in work.axes if axis in number]
            out = axes[0] if axes else -1
            yield _Work(work.amount, written, 0.0, out, -1, 1.0, 1.0, 1, 0.0)
            continue
        data, depthwise = kernel.operand(node), kernel.in_axis is None
        at = kernel.out_axis if kernel.in_axis is None else kernel.in_axis
        reading = _reading_of(weight, kernel)
        yield _Work(
            work.amount,
            written,
            0.0 if data is None else _numbers(data),
            number.get(weight.at(kernel.out_axis), -1),
            -1 if depthwise else number.get(weight.at(at), -1),
            float(weight.sample[kernel.out_axis]),
            1.0 if depthwise else float(weight.sample[at]),
            blocks.convolution if reading else blocks.product,
            reading,
        )
    x = node.input(0)
    if not products and x is not None and x.at(1) in number and _pools(x, node.outputs[0]):
        written, taken, axis = _numbers(node.outputs[0]), _numbers(x), number[x.at(1)]
        full = float(x.sample[1]) if x.sample else 1.0
        yield _Work(0.0, written, taken, axis, -1, full, 1.0, blocks.convolution, 0.0)


def _numbers(tensor: Tensor) -> float:
    """How many numbers a tensor holds for a sample."""
    return float(np.prod(tensor.sample or (1,)))


def _reading_of(weight: Tensor, kernel: Kernel) -> float:
    """What reading costs a convolution, in blocks; 0 for a product of matrices."""
    if weight.rank <= 2 or kernel.channel != 1 or weight.sample is None:
        return 0.0
    pointwise = kernel.in_axis is not None and math.prod(weight.sample[2:]) == 1
    return READING_PLACES if pointwise else READING


def _pools(x: Tensor, y: Tensor) -> bool:
    """Whether images keep their channels and get smaller."""
    if x.sample is None or y.sample is None or not len(x.sample) == len(y.sample) == IMAGES:
        return False
    return x.sample[1] == y.sample[1] and _numbers(y) < _numbers(x)
