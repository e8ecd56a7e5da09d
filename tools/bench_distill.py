"""What a step of distillation costs, in shares of the least that it could.

A step needs the teacher once, and the student forward and backward: about three forward passes.
The floor is what those take in onnxruntime with all weights inside, on the same batch. Seconds are
those of the processor on one thread, so that what else the machine does counts little.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from onnxprune.calibration.samples import calibration
from onnxprune.calibration.segment import open_model
from onnxprune.compensation.distillation.models import OpenModels, Student, open_models
from onnxprune.compensation.distillation.schedule import Schedule
from onnxprune.compensation.distillation.training import step_batches, train
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir.load import load
from onnxprune.ir.runtime import Device
from onnxprune.settings import Settings
from onnxprune.surgery.cut import narrowed
from onnxprune.surgery.plan import plan_of

__all__ = ["CASES", "HEADER", "NOTE", "measured"]

CASES = (
    *("resnet20_cifar10", "resnet56_cifar10", "mobilenetv1_025_128_imagenet"),
    *("dscnn_kws", "bert_tiny3_sst2"),
)
HEADER = ("case", "teacher ms", "student ms", "step ms", "floor ms", "step/floor")
NOTE = (
    "The student has 70 % of the channels of every group; batches of 32; processor milliseconds, "
    "medians. Floor: 3 × student + teacher, forward."
)
#: Share of the channels that the student keeps.
KEPT = 0.7


def measured(name: str, case: Any, steps: int, threads: int) -> list[str]:
    """One row of the table, for a trained model with its calibration samples."""
    device = Device(threads=threads)
    model = load(case.model)
    data = calibration(case.calib, model, Settings())
    batches = [feeds for feeds in step_batches(data.batches) if _rows(feeds) == 32]
    teacher = analyze(model, Settings(), biases=True)
    student = _narrow(teacher)
    models = open_models(teacher, student, batches[0], device)
    assert models is not None, f"{name}: no gradient reaches a weight"
    each = [_forward(a, batches[0], device) for a in (teacher, student.analysis)]
    forward = [_milliseconds(run) for run in each]
    step = _step(models, batches, steps)
    forward = [min(a, _milliseconds(run)) for a, run in zip(forward, each, strict=True)]
    floor = forward[0] + 3 * forward[1]
    return [name, *(f"{ms:.1f}" for ms in (*forward, step, floor)), f"{step / floor:.2f}"]


def _rows(feeds: Any) -> int:
    return len(next(iter(feeds.values())))


def _narrow(teacher: Analysis) -> Student:
    """The model without the last channels of every group."""
    sizes = [(group.channels, max(1, round(KEPT * group.channels))) for group in teacher.groups]
    kept = [np.arange(channels) < stays for channels, stays in sizes]
    model = narrowed(teacher, kept, None)
    return Student(analyze(model, Settings()), plan_of(teacher.groups, kept))


def _forward(analysis: Analysis, feeds: Any, device: Device) -> Callable[[], object]:
    """A plain run of a model."""
    outputs = [output.name for output in analysis.model.graph.output]
    opened = open_model(analysis.model, outputs, feeds, analysis.read, device)
    return lambda: opened.run(feeds)


def _milliseconds(run: Callable[[], object], count: int = 12) -> float:
    """Median processor time of a run."""
    run()
    return median(_between(_stamps(run, count)))


def _stamps(run: Callable[[], object], count: int) -> Iterator[float]:
    yield time.process_time()
    for _ in range(count):
        run()
        yield time.process_time()


def _between(stamps: Iterator[float]) -> list[float]:
    found = list(stamps)
    return [1e3 * (b - a) for a, b in pairwise(found)]


def _step(models: OpenModels, batches: list[Any], steps: int) -> float:
    """Median processor time of a step, from the end of one to the end of the next."""
    stamps = list[float]()
    used = batches[: max(2, min(len(batches), steps))]
    schedule = Schedule(used, used[:1], -(-steps // len(used)))
    train(models, used, schedule, lambda _: stamps.append(time.process_time()))
    print(f"{len(stamps)} steps", file=sys.stderr)
    return median(_between(iter(stamps)))
