"""Read samples with labels, from all that calibration data may come from.

Labels lie beside the inputs: an array `labels`, or `labels/OUTPUT` for each of several outputs.
What memory has no room for lies in a temporary file, so any number of samples can be read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onnxprune.calibration import batches as batching
from onnxprune.calibration.batches import BatchCollector
from onnxprune.calibration.read_samples import first_axes, read_samples
from onnxprune.calibration.samples import Calibration
from onnxprune.calibration.sources import LABELS, is_label, shards_of
from onnxprune.errors import InputError
from onnxprune.ir.graph import ModelProto

__all__ = ["Batch", "SampleSet", "labelled", "unlabelled"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """Some samples: arrays by input name, and labels by output."""

    feeds: Mapping[str, Array]
    labels: Mapping[str, Array]
    size: int


@dataclass(frozen=True)
class SampleSet:
    """Samples in batches.

    Attributes:
        batches: the samples.
        digest: tells them from others.
        source: what reports call them.
        whole: whether batches cannot be given to the model in parts.
    """

    batches: Sequence[Batch]
    digest: str
    source: str
    whole: bool

    @property
    def samples(self) -> int:
        """The number of samples in all batches."""
        return sum(batch.size for batch in self.batches)

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return any(batch.labels for batch in self.batches)


def unlabelled(data: Calibration) -> SampleSet:
    """Calibration data as samples without labels."""
    pairs = zip(data.batches, data.sizes, strict=True)
    batches = [Batch(feeds, {}, size) for feeds, size in pairs]
    return SampleSet(batches, data.digest, data.source, data.whole)


def labelled(source: Any, model: ModelProto, folder: Path | None = None) -> SampleSet:
    """Read samples with labels.

    Args:
        source: as of calibration data, see `onnxprune.calibration.samples.calibration`.
        model: which the samples are for.
        folder: where samples lie that memory has no room for, None: the system's.

    Raises:
        InputError: the source cannot be read, does not fit the model's inputs, or lacks labels.
    """
    axes = first_axes(model)
    fixed = axes.fixed if axes.stacked else None
    with _called("training data"):
        shards, name = shards_of(source, model)
        with closing(BatchCollector(fixed, batching.LIMITS, folder)) as collector:
            for samples in read_samples(shards, model, axes, sys.maxsize, labelled=True):
                collector.add(samples)
            collector.finish(name)
            pairs = zip(collector.batches(), collector.sizes, strict=True)
            outputs = _outputs(model)
            batches = [_divided(feeds, size, outputs, name) for feeds, size in pairs]
            digest = collector.digest.hexdigest()
    return SampleSet(batches, digest, name, not axes.stacked or fixed is not None)


@contextmanager
def _called(what: str) -> Iterator[None]:
    """Let errors about calibration data speak of other data."""
    try:
        yield
    except InputError as error:
        text = str(error)
        found = text.replace("calibration", what, 1) if text.startswith("calibration") else text
        raise InputError(found) from error


def _outputs(model: ModelProto) -> list[str]:
    return [value.name for value in model.graph.output]


def _divided(feeds: Mapping[str, Array], size: int, outputs: Sequence[str], name: str) -> Batch:
    """Inputs and labels of a batch."""
    labels = dict[str, Array]()
    inputs = {key: array for key, array in feeds.items() if not is_label(key)}
    for key in feeds.keys() - inputs.keys():
        output = outputs[0] if key == LABELS else key.removeprefix(f"{LABELS}/")
        if output not in outputs:
            raise InputError(
                f"training data {name}: '{key}' is for no output of the model. Name one of: "
                f"{', '.join(outputs)}"
            )
        if feeds[key].dtype.kind not in "iubf":
            raise InputError(f"training data {name}: '{key}' is {feeds[key].dtype}: give numbers")
        labels[output] = feeds[key]
    if not labels:
        raise InputError(
            f"training data {name}: holds no labels. Add an array '{LABELS}', or give the samples "
            "as --calib, with a --teacher"
        )
    return Batch(inputs, labels, size)
