"""Read calibration data: batches of samples that the model takes, readable several times.

At most so many samples are used, spread evenly over arrays and files; of a stream the first ones.
Batches beyond a limit lie in a temporary file, so that memory does not grow with their number.
Start reading at `calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from onnxprune.calibration import batches as batching
from onnxprune.calibration.batches import (
    BatchCollector,
    BatchLimits,
    activation_growth,
    divided,
)
from onnxprune.calibration.read_samples import first_axes, random_shards, read_samples
from onnxprune.calibration.sources import Shards, shards_of
from onnxprune.calibration.workplace import Workplace
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds, rows
from onnxprune.settings import CalibrationSettings
from onnxprune.types import Node

__all__ = ["Calibration", "calibration", "further_samples", "hold_out", "is_random"]

#: The word that asks for random inputs.
RANDOM = "random"
_RANDOM_NOTE = "calibrated on random inputs, which say little about real ones"


@dataclass(frozen=True)
class Calibration:
    """Samples in batches.

    Attributes:
        batches: feeds of each batch.
        sizes: samples of each batch.
        digest: tells these samples from others.
        source: what reports call them.
        notes: what reports say about them.
        whole: whether batches cannot be given to the model in parts.
        place: where the model runs on them, and what memory has no room for lies.
    """

    batches: tuple[Feeds, ...]
    sizes: tuple[int, ...]
    digest: str
    source: str
    notes: tuple[str, ...] = ()
    whole: bool = False
    place: Workplace = field(default_factory=Workplace)

    @property
    def samples(self) -> int:
        """The number of samples in all batches."""
        return sum(self.sizes)


def is_random(source: Any) -> bool:
    """Whether a source is the word that asks for random inputs."""
    return isinstance(source, str) and source == RANDOM


def calibration(
    source: Any,
    model: ModelProto,
    settings: CalibrationSettings | None = None,
    nodes: Sequence[Node] = (),
    limits: BatchLimits | None = None,
) -> Calibration:
    """Read a source of samples into batches.

    Args:
        source: a path, `file.py:function`, `random`, arrays, an iterable of dicts of arrays (or of
            arrays where there is one input), or an object with `get_next()` such as onnxruntime's
            CalibrationDataReader. A Calibration is only divided anew.
        model: which the samples are for.
        settings: how many samples at most, what `random` draws, the folder of temporary files.
        nodes: the model's. They tell which integers `random` may draw, and how large activations
            are, which limits batches further.
        limits: how large batches become, None: `batches.LIMITS`.

    Raises:
        InputError: the source cannot be read, or does not fit the model's inputs.
    """
    limits = limits or batching.LIMITS
    if isinstance(source, Calibration):
        data = source
    else:
        data = _read(source, model, settings or CalibrationSettings(), nodes, limits)
    if data.whole or not nodes:
        return data
    batches, sizes = divided(data.batches, data.sizes, activation_growth(nodes), limits.bytes)
    return replace(data, batches=batches, sizes=sizes)


def further_samples(
    settings: CalibrationSettings, model: ModelProto, nodes: Sequence[Node]
) -> Calibration | None:
    """Read the further samples that only distillation sees; None where there are none.

    Raises:
        InputError: as `calibration`.
    """
    more = settings.more
    return None if more is None else calibration(more, model, settings, nodes)


def _read(
    source: Any,
    model: ModelProto,
    settings: CalibrationSettings,
    nodes: Sequence[Node],
    limits: BatchLimits,
) -> Calibration:
    """Read a source into batches, however large their activations are."""
    axes = first_axes(model)
    if is_random(source):
        name, notes = "random inputs", [_RANDOM_NOTE]
        shards: Shards = random_shards(model, settings, nodes, axes)
    else:
        (shards, name), notes = shards_of(source, model), []
    fixed = axes.fixed if axes.stacked else None
    with closing(BatchCollector(fixed, limits, settings.folder)) as collector:
        for samples in read_samples(shards, model, axes, settings.calib_samples):
            collector.add(samples)
        if left_out := collector.finish(name):
            notes.append(
                f"{left_out} calibration samples were left out: the model takes {fixed} at once"
            )
        sizes, digest = tuple(collector.sizes), collector.digest.hexdigest()
        whole = not axes.stacked or fixed is not None
        place = Workplace(settings.folder, settings.device.all_threads)
        return Calibration(collector.batches(), sizes, digest, name, tuple(notes), whole, place)


def hold_out(data: Calibration, every: int) -> tuple[Calibration, Calibration]:
    """Split off about one sample in `every`; none where there are too few.

    Held-out samples are the last of every so many batches, or of every batch that holds as many.

    Returns:
        All other samples, and those held out.
    """
    rest, held = list[tuple[Feeds, int]](), list[tuple[Feeds, int]]()
    waiting = 0
    for feeds, size in zip(data.batches, data.sizes, strict=True):
        waiting += size
        count = size if data.whole or size == 1 else waiting // every
        if waiting < every or count == 0:
            rest.append((feeds, size))
            continue
        waiting -= every * (waiting // every)
        held.append((rows(feeds, slice(size - count, None)), count))
        if count < size:
            rest.append((rows(feeds, slice(size - count)), size - count))

    def made(parts: Sequence[tuple[Feeds, int]]) -> Calibration:
        batches, sizes = tuple(feeds for feeds, _ in parts), tuple(size for _, size in parts)
        return replace(data, batches=batches, sizes=sizes)

    return (made(rest), made(held)) if rest else (data, made([]))
