"""Ways to tune pruned models, judged by samples held out of calibration.

No test sample and no label is looked at: three quarters of the calibration samples measure, refit
and tune, the rest says how far the outputs are from the original's. Every model is pruned and
refitted once; each variant of `Tuning` starts from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from bench_trained import load_cases, percent, session_of

from onnxprune.allocation.widths import widths_for
from onnxprune.calibration.agreement import agreement
from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.samples import calibration
from onnxprune.compensation.distillation.distill import Student, distill
from onnxprune.compensation.distillation.schedule import TUNING, Schedule, Tuning
from onnxprune.compensation.distillation.training import step_batches
from onnxprune.compensation.teacher import own_teacher
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir.patch import patch
from onnxprune.pipeline.prune_calibrated import measured_groups, refitted
from onnxprune.settings import Settings
from onnxprune.surgery import shortcuts
from onnxprune.surgery.cut import Stage

__all__ = ["CASES", "HEADER", "NOTE", "TITLE", "Variant", "measured", "row_of", "variant_of"]

TITLE = "Ways to tune, and samples held out"
HEADER = ("case", "target", "variant", "steps", "divergence", "agreement", "same top-1", "cpu s")
NOTE = (
    "Divergence from the original on samples held out of calibration; agreement: chance of the "
    "same class in percent, Σ p q; and how often the largest output is the same."
)
#: Cases and the share of their MACs that they are pruned to.
CASES = {
    "resnet8_cifar10": 0.5,
    "dscnn_kws": 0.5,
    "resnet20_cifar10": 0.5,
    "mobilenetv1_025_128_imagenet": 0.667,
    "ppocr_cls": 0.5,
    "bert_tiny3_sst2": 0.5,
}
#: Share of the calibration samples that calibrate.
CALIBRATING = 0.75
#: Samples of one run.
BATCH = 64


@dataclass(frozen=True)
class _Subject:
    """A refitted student, what it may be tuned on, and samples that were used for nothing."""

    analysis: Analysis
    stage: Stage
    schedule: Schedule
    held: Mapping[str, Any]
    before: Sequence[Mapping[str, Any]]
    options: Settings


class Variant(NamedTuple):
    """How to tune, and for how many times the rounds that are usual."""

    tuning: Tuning
    rounds: float


def variant_of(text: str) -> Variant:
    """Read `last=0.5,rounds=2`: fields of `Tuning`, and rounds; numbers of a field joined by +."""
    given = dict(part.split("=") for part in text.split(",") if part)
    rounds = float(given.pop("rounds", 1))
    return Variant(replace(TUNING, **{k: _value(k, v) for k, v in given.items()}), rounds)


def _value(name: str, text: str) -> Any:
    """The content of a field of `Tuning`."""
    kind = type(getattr(TUNING, name))
    if kind is tuple:
        return tuple(float(part) for part in text.split("+") if part)
    return kind(text)


def measured(
    cases: Sequence[str], variants: Sequence[str], samples: int, cache: str | None
) -> Iterator[dict[str, Any]]:
    """A row of numbers for every case after its refit, and for every variant."""
    asked = [(text or "as it is", variant_of(text)) for text in variants]
    for name in cases or CASES:
        subject = _subject(name, samples, cache)
        head = {"case": name, "target": f"macs={CASES[name]:g}"}
        start = {"variant": "refitted", "steps": 0, "seconds": 0.0}
        yield {**head, **start, **_judged(subject, subject.stage.model)}
        for text, variant in asked:
            yield {**head, "variant": text, **_tuned(subject, variant)}


def _subject(name: str, samples: int, cache: str | None) -> _Subject:
    """Measure, cut and refit a case on the first of its samples."""
    case = load_cases().load(name, n_test=1, n_calib=samples)
    count = int(CALIBRATING * len(next(iter(case.calib.values()))))
    first = {key: rows[:count] for key, rows in case.calib.items()}
    kept = None if cache is None else Path(cache, f"{name}.json")
    options = Settings(calib=first, latency=False, cache=kept)
    analysis = analyze(onnx.load(case.model), options, biases=True)
    picked = shortcuts.convolved(analysis, options) if shortcuts.selections(analysis) else None
    if picked is not None:
        analysis = analyze(picked.model, options, biases=True)
    data = calibration(options.calib, analysis.original, options, analysis.nodes)
    found = measured_groups(analysis, data, options)
    budgets = {"macs": CASES[name] * float(analysis.cost.full[0])}
    widths = widths_for(found.analysis, found.rows, budgets, options, found.unmeasured.keys())
    stage, schedule = refitted(found, widths, own_teacher(analysis, data), options)
    assert schedule is not None, f"{name}: nothing is tuned"
    held = {key: rows[count:] for key, rows in case.calib.items()}
    before = _outputs(onnx.load(case.model), held)
    return _Subject(found.analysis, stage, schedule, held, before, options)


def _tuned(subject: _Subject, variant: Variant) -> dict[str, float]:
    """Tune a student in one way, and judge it."""
    rounds = max(1, round(variant.rounds * subject.schedule.rounds))
    schedule = subject.schedule._replace(tuning=variant.tuning, near=0.0, rounds=rounds)
    student = Student(analyze(subject.stage.model, subject.options), subject.stage.plan)
    start = time.process_time()
    result = distill(subject.analysis, student, schedule)
    seconds = time.process_time() - start
    assert result is not None
    steps = rounds * sum(1 for _ in step_batches(schedule.fit, variant.tuning.batch))
    model = patch(subject.stage.model, result.patches)
    return {"steps": steps, "seconds": seconds, **_judged(subject, model)}


def _judged(subject: _Subject, model: onnx.ModelProto) -> dict[str, float]:
    """How far a model is from the original on samples held out."""
    far, chance, same = list[float](), list[Any](), list[Any]()
    for before, after in zip(subject.before, _outputs(model, subject.held), strict=True):
        first = next(iter(before))
        count = len(before[first])
        far.append(count * divergence(before, after))
        chance.append(agreement(before, after, count))
        same.append(before[first].argmax(-1) == after[first].argmax(-1))
    everyone = np.concatenate(chance)
    return {
        "divergence": sum(far) / len(everyone),
        "agreement": float(everyone.mean()),
        "same": float(np.concatenate(same).mean()),
    }


def _outputs(model: onnx.ModelProto, samples: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Outputs by name on all samples, batch by batch."""
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    count = len(next(iter(samples.values())))
    parts = [
        session.run(names, {key: rows[k : k + BATCH] for key, rows in samples.items()})
        for k in range(0, count, BATCH)
    ]
    return [dict(zip(names, part, strict=True)) for part in parts]


def row_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The numbers as cells under `HEADER`."""
    return (
        values["case"],
        values["target"],
        values["variant"],
        f"{values['steps']:.0f}",
        f"{values['divergence']:.4f}",
        percent(values["agreement"]),
        percent(values["same"]),
        f"{values['seconds']:.0f}",
    )
