"""Measure units in other processes, each of which opens the model once and keeps it.

What a process needs lies in files: the model, the samples that divergence is measured on, and for
each unit the statistics of its layers. The process analyzes the model as it was analyzed here and
describes the same units, of which a task names one; it computes what this process would.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.importance_sampling import WeightedBatch
from onnxprune.calibration.moments import Statistics
from onnxprune.calibration.samples import Calibration
from onnxprune.calibration.workplace import Workplace
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.importance.output_divergence import DivergenceSamples, divergence_samples, reopened
from onnxprune.importance.sensitivity import (
    Measurable,
    demand,
    measure_sensitivities,
    measured_unit,
    units_with_statistics,
)
from onnxprune.ir import runtime, save
from onnxprune.ir.blas import one_thread
from onnxprune.ir.model import read_model
from onnxprune.ops.registry import COUPLINGS
from onnxprune.parallel.array_files import array_at, arrays_at, keep_array, keep_arrays
from onnxprune.parallel.tasks import run_tasks
from onnxprune.settings import AnalysisSettings
from onnxprune.temporary_files import TemporaryFolder
from onnxprune.types import Group
from onnxprune.user_code import registered

__all__ = ["Workers", "measured_by"]

T = TypeVar("T")
Named = tuple[tuple[str, bool], ...]
#: Where the model lies.
MODEL = "model/model.onnx"


@dataclass(frozen=True)
class Workers(Generic[T]):
    """How other processes come to the same units.

    Attributes:
        jobs: how many processes.
        settings: with which `analyze` gives the analysis again.
        units: a function of a module that describes the units, from the analysis and `arrays`.
        arrays: what it needs beside the analysis.
    """

    jobs: int
    settings: AnalysisSettings
    units: Callable[[Analysis, Mapping[str, NDArray[Any]]], Sequence[Measurable[T]]]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Spool(Generic[T]):
    """Where the files lie, and small values beside them; equal where the folder is.

    Attributes:
        folder: with all files.
        device: what runs the model.
        workers: how the units are described, without arrays.
        biases: whether layers without a bias got one.
        groups: those of several heads, whose channels may stand in another order, by number.
        feeds: names in each batch of samples.
        arrays: names of what the units need.
        begins: operators with which the stretches of the kept run begin.
        runs: how many runs each unit may have.
        libraries: of operators that onnxruntime lacks.
    """

    folder: str
    device: runtime.Device = field(compare=False)
    workers: Workers[T] = field(compare=False)
    biases: bool = field(compare=False)
    groups: Mapping[int, Group] = field(compare=False)
    feeds: tuple[Named, ...] = field(compare=False)
    arrays: Named = field(compare=False)
    begins: tuple[int, ...] = field(compare=False)
    runs: int = field(compare=False)
    libraries: tuple[str, ...] = field(compare=False)


@dataclass(frozen=True)
class Opened(Generic[T]):
    """What a process keeps from one task to the next: the units, and the original's run."""

    units: Sequence[Measurable[T]]
    samples: DivergenceSamples


def measured_by(
    analysis: Analysis,
    data: Calibration,
    workers: Workers[T],
    progress: Callable[[float], None] = lambda share: None,
) -> list[T]:
    """Measure every unit as `measure_sensitivities` does, in as many processes as there may be.

    Rules that were registered from Python are not known to other processes: with such rules all is
    measured in this one.

    Args:
        analysis: the original.
        data: calibration data.
        workers: how many processes, and how they come to the units.
        progress: is told the share done.

    Raises:
        InputError: processes are lost again and again.
    """
    units = workers.units(analysis, workers.arrays)
    if workers.jobs == 1 or any(registered(COUPLINGS)):
        return measure_sensitivities(analysis, units, data, progress)
    samples = divergence_samples(analysis, data, [demand(unit) for unit in units])
    numbers: list[int] = []
    ended: list[int] = []
    with TemporaryFolder(data.place.folder) as path:
        folder = Path(path)
        device = replace(data.place.device, threads=1)  # processes share the cores
        spool = _spooled(Workplace(folder, device), analysis, samples, workers)

        def tasks() -> Iterator[tuple[Any, ...]]:
            for number, statistics in units_with_statistics(analysis, units, data):
                numbers.append(number)
                own = folder / f"unit-{number}"
                yield spool, number, str(own), *_kept(own, statistics)

        def done(task: int) -> None:
            shutil.rmtree(folder / f"unit-{numbers[task]}", ignore_errors=True)
            ended.append(task)
            progress(len(ended) / len(units))

        try:
            found = run_tasks(_measure, tasks(), workers.jobs, done)
        finally:
            _opened.cache_clear()  # of this process, where its threads are the workers
    rows = dict(zip(numbers, found, strict=True))
    return [rows[number] for number in range(len(units))]


def _spooled(
    place: Workplace, analysis: Analysis, samples: DivergenceSamples, workers: Workers[T]
) -> Spool[T]:
    """Write what all tasks share."""
    folder = place.folder
    assert folder is not None
    (folder / MODEL).parent.mkdir()  # who writes a model locks its folder, and this one is locked
    save.save(analysis.original, folder / MODEL, outside=True)
    feeds = []
    for number, batch in enumerate(samples.drawn):
        feeds.append(keep_arrays(folder / f"batch-{number}", batch.feeds))
        keep_array(folder / f"weights-{number}.npy", batch.weights)
    return Spool(
        str(folder),
        place.device,
        Workers(workers.jobs, workers.settings, workers.units, {}),
        analysis.biases,
        {k: own for k, own in enumerate(analysis.groups) if own.heads > 1},
        tuple(feeds),
        keep_arrays(folder / "arrays", workers.arrays),
        samples.begins,
        samples.runs,
        runtime.custom_libraries(),
    )


def _kept(folder: Path, statistics: Mapping[str, Statistics]) -> tuple[Named, tuple[int, ...]]:
    """Write the statistics of a unit's layers; names of the arrays, and counts of rows."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, own in statistics.items():
        arrays |= {f"mean {name}": own.mean_x, f"cov {name}": own.cov}
    return keep_arrays(folder, arrays), tuple(own.count for own in statistics.values())


def _statistics(folder: Path, kept: Named, counts: Sequence[int]) -> dict[str, Statistics]:
    """Read what `_kept` wrote."""
    arrays, none = arrays_at(folder, kept), np.zeros(0)
    names = [name.removeprefix("mean ") for name in arrays if name.startswith("mean ")]
    found = {}
    for name, count in zip(names, counts, strict=True):
        mean, cov = arrays[f"mean {name}"], arrays[f"cov {name}"]
        found[name] = Statistics(count, mean, none, cov, np.zeros((len(mean), 0)), none)
    return found


@one_thread()
def _measure(spool: Spool[T], number: int, folder: str, kept: Named, counts: Sequence[int]) -> T:
    """Measure one unit, in a worker."""
    opened = _opened(spool)
    unit: Measurable[T] = opened.units[number]
    return measured_unit(unit, _statistics(Path(folder), kept, counts), opened.samples)


@lru_cache(maxsize=1)
def _opened(spool: Spool[T]) -> Opened[T]:
    """Open the model and the samples, once in each process."""
    folder, workers = Path(spool.folder), spool.workers
    for library in spool.libraries:
        runtime.custom_ops(library)
    plain = analyze(read_model(folder / MODEL).proto, workers.settings, biases=spool.biases)
    analysis = plain.with_groups(spool.groups.get(k, own) for k, own in enumerate(plain.groups))
    drawn = tuple(
        WeightedBatch(
            arrays_at(folder / f"batch-{k}", names), array_at(folder / f"weights-{k}.npy")
        )
        for k, names in enumerate(spool.feeds)
    )
    units = workers.units(analysis, arrays_at(folder / "arrays", spool.arrays))
    place = Workplace(folder, spool.device)
    return Opened(units, reopened(analysis, drawn, spool.begins, spool.runs, place))
