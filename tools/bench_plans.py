"""Plans of whole blocks on trained models, judged by samples held out of calibration.

No test sample is looked at: three quarters of the calibration samples calibrate, the rest says how
far the outputs of each plan are from the original's. Sensitivities are measured once per model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bench_trained import load_cases, percent, session_of

from onnxprune.allocation.allocate import allocate
from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.kernel_blocks import kernel_blocks
from onnxprune.allocation.latency.kernel_times import KernelTimes, group_blocks, kernel_times
from onnxprune.allocation.problem import Problem, problem_of
from onnxprune.allocation.state import Allocation
from onnxprune.allocation.whole_blocks import TIGHTER, Choice, best_plan, problems
from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.samples import calibration
from onnxprune.compensation.teacher import Teacher
from onnxprune.groups.analysis import analyze
from onnxprune.pipeline.prune_calibrated import Measured, measured_groups, refitted
from onnxprune.settings import Settings
from onnxprune.surgery import shortcuts
from onnxprune.types import Plan

__all__ = ["HEADER", "NOTE", "TITLE", "measured", "row_of"]

TITLE = "Plans and samples held out"
HEADER = (
    *("case", "target", "plan", "macs", "predicted time", "measured time"),
    *("predicted error", "held-out divergence", "held-out agreement"),
)
NOTE = (
    "Time in shares of the original's, one thread, batch 1, in turns with the original. Divergence "
    "and agreement of the largest output with the original's, in percent, after the refit without "
    f"distillation. `tighter` is the plan of any width at {TIGHTER:g} of the target, whose "
    "predicted error is the most that the chosen plan may have."
)
CASES = ("resnet20_cifar10", "resnet56_cifar10", "dscnn_kws", "resnet8_cifar10")
SHARES = (0.7, 0.5)
PLANS = ("any width", "tighter", "whole blocks", "chosen")
#: Share of the calibration samples that calibrate.
CALIBRATING = 0.75
#: Samples of one run.
BATCH = 64


@dataclass(frozen=True)
class _Subject:
    """A model whose groups were measured, and samples that were not used for it."""

    case: Any
    measured: Measured
    teacher: Teacher
    held: Mapping[str, Any]
    options: Settings

    @cached_property
    def times(self) -> KernelTimes:
        return kernel_times(self.measured.analysis, kernel_blocks(self.options.stopwatch))

    def problem(self, share: float) -> Problem:
        """Any width within a share of the MACs."""
        cost = self.measured.analysis.cost
        rows = self.measured.rows
        fine = [row.offering(row.unit.levels[row.unit.levels > 0]) for row in rows]
        return problem_of(cost, {"macs": share * cost.full[0]}, fine)

    def choice(self, share: float) -> Choice:
        """What `best_plan` chooses from."""
        groups = self.measured.analysis.groups
        blocks = group_blocks(self.times, groups)
        return Choice(self.problem(share), self.times, blocks, allocate, True)


def measured(only: str, cache: str | None) -> Iterator[dict[str, Any]]:
    """One row of numbers for every plan whose `case target plan` matches `only`."""
    for name in CASES:
        wanted = [
            (share, plan)
            for share, plan in product(SHARES, PLANS)
            if re.search(only, f"{name} macs={share:g} {plan}")
        ]
        subject = _subject(name, cache) if wanted else None
        for share, plan in wanted:
            assert subject is not None
            found = _plan(subject, share, plan)
            head = {"case": name, "target": f"macs={share:g}", "plan": plan}
            if found is not None and found.met:
                yield head | _judged(subject, found)


def _subject(name: str, cache: str | None) -> _Subject:
    """Measure the groups of a case on its first samples."""
    case = load_cases().load(name, n_test=1)
    count = int(CALIBRATING * len(next(iter(case.calib.values()))))
    first = {key: rows[:count] for key, rows in case.calib.items()}
    kept = None if cache is None else Path(cache, f"{name}.json")
    options = Settings(calib=first, distill=False, latency=False, cache=kept)
    analysis = analyze(onnx.load(case.model), options, biases=True)
    picked = shortcuts.convolved(analysis, options)
    if picked is not None:
        analysis = analyze(picked.model, options, biases=True)
    data = calibration(options.calib, analysis.original, options, analysis.nodes)
    teacher = Teacher(analysis.model, analysis.read, data, Plan({}, {}))
    held = {key: rows[count:] for key, rows in case.calib.items()}
    return _Subject(case, measured_groups(analysis, data, options), teacher, held, options)


def _plan(subject: _Subject, share: float, plan: str) -> Allocation | None:
    """One of the plans that are compared."""
    choice = subject.choice(share)
    if plan == "chosen":
        return best_plan(choice)
    if plan == "whole blocks":
        return allocate(next(problems(choice)))
    return allocate(choice.problem if plan == "any width" else subject.problem(TIGHTER * share))


def _judged(subject: _Subject, plan: Allocation) -> dict[str, Any]:
    """Refit a plan, and measure what it takes and loses."""
    cost = subject.measured.analysis.cost
    stage, _ = refitted(subject.measured, plan.widths, subject.teacher, subject.options)
    dense = onnx.load(subject.case.model)
    one = {key: rows[:1] for key, rows in subject.held.items()}
    content = [model.SerializeToString() for model in (dense, stage.model)]
    before, after = (_outputs(model, subject.held) for model in (dense, stage.model))
    name = next(iter(before))
    same = before[name].argmax(-1) == after[name].argmax(-1)
    return {
        "macs": float(cost.at(plan.widths)[0] / cost.full[0]),
        "predicted": subject.times.at(plan.widths),
        "time": timer.ratio(content[0], content[1], one, subject.options.stopwatch),
        "error": plan.error,
        "divergence": divergence(before, after),
        "agreement": float(same.mean()),
    }


def _outputs(model: onnx.ModelProto, samples: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs by name on all samples."""
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    count = len(next(iter(samples.values())))
    parts = [
        session.run(names, {key: rows[k : k + BATCH] for key, rows in samples.items()})
        for k in range(0, count, BATCH)
    ]
    return {
        name: np.concatenate(p) for name, p in zip(names, zip(*parts, strict=True), strict=True)
    }


def row_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The numbers as cells under `HEADER`."""
    return (
        values["case"],
        values["target"],
        values["plan"],
        f"{values['macs']:.3f}",
        f"{values['predicted']:.3f}",
        f"{values['time']:.3f}",
        f"{values['error']:.4f}",
        f"{values['divergence']:.4f}",
        percent(values["agreement"]),
    )
