"""Find how many channels the runtime's kernels take at once, by a benchmark of about a second.

A layer is timed at some numbers of channels that it makes, in turns. The time is
fitted by a line over the width rounded up to blocks of 1, 8, 16 or 32 channels, and the block that
fits best is taken if it fits clearly better than all others; else what the instruction set says
counts. The answer is kept for each processor, provider and version of onnxruntime in a file beside
those of times, so that later runs on the machine give the same plans whatever else it does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.cache import machine_file
from onnxprune.atomic_files import DAMAGED, update_file
from onnxprune.errors import InputError
from onnxprune.ir import skeleton
from onnxprune.ir.runtime import CPU
from onnxprune.ir.stopwatch import Stopwatch, TimedModel
from onnxprune.types import Floats

__all__ = ["Blocks", "fitting_block", "keeps_layout", "kernel_blocks"]

#: Blocks that kernels may have.
CANDIDATES = (1, 8, 16, 32)
#: Widths that are timed, and how often the whole comparison is made.
WIDTHS, TURNS = (32, 36, 40, 44, 48, 52, 56, 60, 64), 2
#: A block must leave at most this share of the squared deviation of the next best one.
CLEARLY = 0.5
#: Channels of the smallest register in use: what is taken of a processor that is not known.
LEAST = 8
#: Where half of the channels cost less than this share, times say nothing.
LEAST_FALL = 0.1
#: Changes where older answers mean something else.
VERSION = 1


@dataclass(frozen=True)
class Blocks:
    """Channels that convolutions and matrix products take at once, and where that is known from."""

    convolution: int
    product: int
    source: str = "given"

    def values(self) -> dict[str, Any]:
        """What reports and plans say."""
        return {
            "convolution": self.convolution,
            "product": self.product,
            "source": self.source,
        }


def keeps_layout(watch: Stopwatch) -> bool:
    """Whether convolutions run here, by onnxruntime's own kernels that keep channels in blocks."""
    cpu = watch.here and watch.device.resolve() == CPU
    return cpu and kernel_blocks(watch).convolution > 1


def kernel_blocks(watch: Stopwatch) -> Blocks:
    """Look the blocks of a device up, or measure them once.

    Args:
        watch: times what will run the model; its number of threads does not matter.
    """
    watch = watch.on_one_thread()
    machine = {"version": VERSION, **watch.environment()}
    path = machine_file("blocks", machine)
    with suppress(OSError):
        known = _stored(path.read_bytes())
        if known is not None:
            return known
    found = _measured(watch)

    def merged(content: bytes) -> bytes:
        kept = _stored(content) or found  # another process may have been first
        text = {"onnxprune": "blocks", "machine": machine, "blocks": kept.values()}
        return json.dumps(text).encode()

    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        update_file(path, merged)
        return _stored(path.read_bytes()) or found
    return found


def fitting_block(widths: Sequence[int], times: Floats) -> int | None:
    """Choose the block whose steps explain times (n_widths,) clearly best; None where none does."""
    missed: dict[int, float] = {}
    for block in CANDIDATES:
        steps = np.ceil(np.array(widths) / block) * block
        columns = np.stack([np.ones(len(widths)), steps], 1)
        answer = np.linalg.lstsq(columns, times, rcond=None)[0]
        missed[block] = float(((columns @ answer - times) ** 2).sum())
    best, second = sorted(missed, key=lambda block: missed[block])[:2]
    falls = 1 - min(times) / max(times) > LEAST_FALL
    return best if falls and missed[best] <= CLEARLY * missed[second] else None


def _measured(watch: Stopwatch) -> Blocks:
    """Blocks by benchmark, or where that says nothing by the instruction set."""
    expected = _expected() if watch.here else LEAST
    found = {}
    for kind, jobs in (("convolution", _convolutions()), ("product", _products())):
        *narrower, full = jobs
        try:
            turns = [timer.timed(full, narrower, watch) for _ in range(TURNS)]
        except InputError:
            if not watch.here:
                raise
            turns = []
        times = np.append(np.min(turns, axis=0), 1.0) if turns else np.full(len(jobs), np.nan)
        block = fitting_block(WIDTHS, times) if np.isfinite(times).all() else None
        if block is not None:
            found[kind] = block
    missing = [kind for kind in ("convolution", "product") if kind not in found]
    else_by = "instruction set" if watch.here else "no measurement"
    source = f"{else_by} for {' and '.join(missing)}" if missing else "measured"
    return Blocks(found.get("convolution", expected), found.get("product", expected), source)


def _expected() -> int:
    """Channels that fill a register of the processor, as onnxruntime's kernels take them."""
    return 16 if "avx512f" in _flags() else LEAST


def _flags() -> str:
    """What the system tells of the processor."""
    with suppress(OSError):
        return Path("/proc/cpuinfo").read_text()
    return ""


def _convolutions() -> list[TimedModel]:
    """A convolution with so many channels."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((1, 64, 14, 14)).astype(np.float32)
    return _layers("Conv", data, (64, 3, 3), {"pads": [1, 1, 1, 1]})


def _products() -> list[TimedModel]:
    """A matrix product with so many columns."""
    data = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    return _layers("MatMul", data, (256,), {})


def _layers(
    op: str, data: NDArray[Any], each: tuple[int, ...], attrs: Mapping[str, Any]
) -> list[TimedModel]:
    """One operator at all widths; the weights of a channel have the shape `each`."""
    jobs = []
    for width in WIDTHS:
        weight = np.random.default_rng(width).standard_normal((width, *each)).astype(np.float32)
        stored = weight if len(each) > 1 else np.ascontiguousarray(weight.T)
        model = skeleton.one_operator(op, {"weight": stored}, attrs)
        jobs.append(TimedModel(model, {"data": data}))
    return jobs


def _stored(content: bytes) -> Blocks | None:
    """Parse what a file says; None where it is damaged."""
    try:
        values: Mapping[str, Any] = json.loads(content)["blocks"]
        sizes = [int(values[kind]) for kind in ("convolution", "product")]
        if not all(size in (*CANDIDATES, 4) for size in sizes):
            return None
        return Blocks(sizes[0], sizes[1], str(values["source"]))
    except DAMAGED:
        return None
