"""Predict how long a model takes from what its kernels compute: whole blocks of channels.

A kernel that works on blocks of B channels computes ⌈n / B⌉ blocks whatever n is. What it takes is
counted in multiply-accumulates of full blocks. A convolution reads its input once for up to
`TOGETHER` blocks of output channels, which costs as much as `READING` further blocks, so that few
blocks are dearer than their share. Every operator has a price for being called, and one for each
number that it writes. The prices were fitted to 70 plans of five models on one thread of a
processor with AVX-512 (deviations of 0.03 to 0.05 of the original's time). Of plans that were not
among those, whole blocks deviate by 0.03, parts of blocks by up to 0.17: what it takes to bring
tensors from one layout to the other is not priced. Prices are the same for all machines, so that a
plan depends on nothing but the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.allocation.latency.time_model import Move
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.cost import CostModel, axis_numbers
from onnxprune.types import Axis, Floats, Group, Ints, Node

__all__ = ["KernelTimes", "group_blocks", "kernel_times"]

#: Blocks of output channels that a convolution computes at once, and what reading for them costs,
#: in blocks.
TOGETHER, READING = 4, 1.8
#: Channels that a fast convolution takes must be a multiple of this; others take it as a product
#: of matrices that are laid out first, which takes so much longer.
ALIGNED, UNALIGNED = 4, 1.6
#: Share of the work that goes with the channels where less than a block is read: the rest stays.
FEW = 0.1
#: What a call costs, and a number that is written, in multiply-accumulates.
CALL, WRITTEN = 2e5, 60.0
#: What tables say of a number of channels: the work, what is added to it, and whether it is odd.
WORK, REST, ODD = range(3)


class _Work(NamedTuple):
    """One kernel: MACs, numbers written, and the cost model's axes it makes and reads (-1: none).

    `block` is that of its kind; a depthwise convolution reads what it makes.
    """

    macs: float
    written: float
    out: int
    read: int
    out_full: float
    read_full: float
    block: int
    convolves: bool


class _Kernels(NamedTuple):
    """Some kernels: their numbers, and where the axes that they make and read stand in sizes."""

    number: Ints
    out: Ints
    read: Ints


class _Table(NamedTuple):
    """What kernels take: (3, n) by `WORK`, `REST`, `ODD`; where each kernel's entries begin."""

    start: Ints
    entries: Floats

    def at(self, kernels: Ints, sizes: Ints) -> Floats:
        """(3, …, n_kernels) at `sizes` (…, n_kernels); that of no axis is one."""
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
    out: Ints
    read: Ints
    full: tuple[Floats, Floats]
    block: Ints
    convolves: Ints

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
        spent: Floats = out[WORK] * read[WORK] * slow + out[REST] * read[REST]
        return spent

    @cached_property
    def _making(self) -> _Table:
        """What kernels take at each number of channels that they make, where all are read."""
        k, n, start = self._counted(self.out)
        full, block, convolves = self.full[0][k], self.block[k], self.convolves[k] > 0
        n = np.where(self.out[k] >= 0, n, full)
        work = self.macs[k] * _made(n, block, convolves) / _made(full, block, convolves)
        rest = CALL + WRITTEN * self.written[k] * n / full
        odd = convolves & (n % ALIGNED > 0) & (n != full)
        return _Table(start, np.stack([work * (n > 0), rest * (n > 0), odd]))

    @cached_property
    def _reading(self) -> _Table:
        """The share of it that they take at each number of channels that they read."""
        k, n, start = self._counted(self.read)
        full, block, convolves = self.full[1][k], self.block[k], self.convolves[k] > 0
        n = np.where(self.read[k] >= 0, n, full)
        work = _taken(n, block, convolves) / _taken(full, block, convolves)
        odd = convolves & (n % ALIGNED > 0) & (n >= block) & (n != full)
        return _Table(start, np.stack([work * (n > 0), (n > 0).astype(float), odd]))

    def _counted(self, axes: Ints) -> tuple[Ints, Floats, Ints]:
        """For each kernel all sizes of its axis, one behind the other.

        Returns:
            The kernel and the size of each entry, and where the entries of each kernel begin.
        """
        counts = 1 + np.append(self.cost.sizes, 1.0)[axes].astype(np.int64)
        start = np.cumsum(counts) - counts
        kernel = np.repeat(np.arange(len(counts)), counts)
        return kernel, (np.arange(counts.sum()) - start[kernel]).astype(float), start


def _made(n: Floats, block: Ints, convolves: NDArray[np.bool_]) -> Floats:
    """(n,) channels that are computed where `n` are made."""
    blocks = np.ceil(n / block)
    grouped = blocks + READING * np.ceil(blocks / TOGETHER)
    found: Floats = np.where(convolves, grouped, blocks) * block
    return found


def _taken(n: Floats, block: Ints, convolves: NDArray[np.bool_]) -> Floats:
    """(n,) channels that are read where `n` are there."""
    whole = np.ceil(n / block) * block
    few = FEW * n + (1 - FEW) * block  # read as it lies, and brought there first
    found: Floats = np.where(convolves, np.where(n < block, few, whole), n)
    return found


def kernel_times(analysis: Analysis, blocks: Blocks) -> KernelTimes:
    """Count what a model's kernels compute.

    Args:
        analysis: the model.
        blocks: of the runtime that will run it.
    """
    number = axis_numbers(analysis.groups)
    works = [work for node in analysis.nodes for work in _works(node, number, blocks)]
    columns: Sequence[Sequence[float]] = list(zip(*works, strict=True)) or [[]] * 8
    macs, written, out, read, out_full, read_full, block, convolves = map(np.array, columns)
    return KernelTimes(
        analysis.cost,
        macs.astype(float),
        written.astype(float),
        out.astype(np.int64),
        read.astype(np.int64),
        (out_full.astype(float), read_full.astype(float)),
        block.astype(np.int64),
        convolves.astype(np.int64),
    )


def group_blocks(times: KernelTimes, groups: Sequence[Group]) -> list[int]:
    """For each group the channels that fill a block of every kernel that has steps there."""
    number = axis_numbers(groups)
    blocks: dict[int, int] = {}
    for k, block in enumerate(times.block.tolist()):
        axes = (times.out[k], times.read[k]) if times.convolves[k] else (times.out[k],)
        for axis in axes:
            blocks[int(axis)] = max(blocks.get(int(axis), 1), block)
    found = []
    for group in groups:
        own = [max(1, blocks.get(number[axis], 1) // at.shape[1]) for axis, at in group.axes()]
        found.append(max(own, default=1))
    return found


def _works(node: Node, number: Mapping[Axis, int], blocks: Blocks) -> Iterator[_Work]:
    """Every product of a node."""
    kernels = ops.kernels_of(node)
    for k, work in enumerate(ops.works_of(node)):
        kernel = kernels[k] if k < len(kernels) else None
        weight = None if kernel is None else node.input(kernel.index)
        result = node.outputs[0]
        written = float(np.prod(result.sample or (1,)))
        if kernel is None or weight is None or weight.sample is None:
            axes = [number.get(axis, -1) for axis in work.axes if axis in number]
            out = axes[0] if axes else -1
            yield _Work(work.amount, written, out, -1, 1.0, 1.0, 1, False)
            continue
        convolves = weight.rank > 2 and kernel.channel == 1
        depthwise = kernel.in_axis is None
        at = kernel.out_axis if depthwise else kernel.in_axis
        assert at is not None
        yield _Work(
            work.amount,
            written,
            number.get(weight.at(kernel.out_axis), -1),
            -1 if depthwise else number.get(weight.at(at), -1),
            float(weight.sample[kernel.out_axis]),
            1.0 if depthwise else float(weight.sample[at]),
            blocks.convolution if convolves else blocks.product,
            convolves,
        )
