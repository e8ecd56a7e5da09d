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
        return float(self._spent(widths, self._all).sum() / self._whole)

    def change(self, widths: Ints, group: int, width: float) -> float:
        """What it adds to the share if one group goes to `width`."""
        other, concerned = widths.copy(), self._concerned[group]
        other[group] = width
        change = self._spent(other, concerned).sum() - self._spent(widths, concerned).sum()
        return float(change / self._whole)

    @cached_property
    def _all(self) -> Ints:
        return np.arange(len(self.macs))

    @cached_property
    def _concerned(self) -> list[Ints]:
        """For each group the numbers of the kernels whose work changes with it."""
        axes = [touched for touched, _, _ in self.cost.touched]
        return [np.flatnonzero(np.isin(self.out, a) | np.isin(self.read, a)) for a in axes]

    @cached_property
    def _whole(self) -> float:
        return float(self._spent(self.cost.channels, self._all).sum()) or 1.0

    def _spent(self, widths: Ints, kernels: Ints) -> Floats:
        """(n,) what some kernels take."""
        sizes = np.append(self.cost.axis_sizes(widths), 1.0)
        block, convolves = self.block[kernels], self.convolves[kernels] > 0
        out_full, read_full = self.full[0][kernels], self.full[1][kernels]
        out = np.where(self.out[kernels] >= 0, sizes[self.out[kernels]], out_full)
        read = np.where(self.read[kernels] >= 0, sizes[self.read[kernels]], read_full)
        made, made_full = (_made(n, block, convolves) for n in (out, out_full))
        taken, taken_full = (_taken(n, block, convolves) for n in (read, read_full))
        odd = (out % ALIGNED > 0) & (out != out_full)
        odd |= (read % ALIGNED > 0) & (read >= block) & (read != read_full)
        slow = np.where(convolves & odd, UNALIGNED, 1.0)
        work = self.macs[kernels] * made / made_full * taken / taken_full * slow
        alive = (out > 0) & (read > 0)
        spent: Floats = alive * (work + CALL + WRITTEN * self.written[kernels] * out / out_full)
        return spent


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
