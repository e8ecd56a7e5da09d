"""Prune on calibration data: measure, allocate, cut and refit, tune; in one step or in several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial, reduce

from onnxprune.allocation.depth import remove_blocks
from onnxprune.allocation.latency import search
from onnxprune.allocation.widths import widths_for
from onnxprune.calibration.samples import Calibration, calibration, further_samples
from onnxprune.compensation.distillation.distill import Student, distill
from onnxprune.compensation.distillation.schedule import Cost, Schedule, schedule_for
from onnxprune.compensation.query_key import Grams
from onnxprune.compensation.reconstruct import compensate
from onnxprune.compensation.teacher import Teacher
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.cost import METRICS
from onnxprune.groups.group_divergence import GroupDivergence, group_divergence
from onnxprune.groups.reach import Part, Reach, refitted_part
from onnxprune.groups.units import Row, channel_rows
from onnxprune.importance.channels import Sensitivity, best_channels
from onnxprune.importance.ranking import rank_on_samples
from onnxprune.importance.sensitivity_cache import cached_sensitivities, sensitivities_key
from onnxprune.importance.units_channels import channel_arrays, grams_of, measure_channels
from onnxprune.ir import save, zero_biases
from onnxprune.ir.patch import patch
from onnxprune.pipeline import step_cache
from onnxprune.pipeline.size_budget import excess_bytes, within_size
from onnxprune.progress import between
from onnxprune.settings import CalibrationSettings, DeviceSettings, Settings
from onnxprune.surgery import plan_file
from onnxprune.surgery.cut import Stage, cut, running
from onnxprune.surgery.remove_blocks import gone_blocks
from onnxprune.types import Floats, Ints, Plan

__all__ = ["Measured", "distilled", "measured_groups", "prune_calibrated", "refitted", "widths_of"]


@dataclass(frozen=True)
class Measured:
    """A model with its groups as they are to be cut, and the sensitivity of each.

    `notes` say where the sensitivities come from, `grams` gives moments of queries and keys.
    """

    analysis: Analysis
    sensitivities: Sequence[Sensitivity]
    notes: Sequence[str]
    grams: Callable[[], Grams]

    @property
    def unmeasured(self) -> dict[int, str]:
        """By number of a group that stays whole why it could not be measured."""
        return {g: s.unmeasured for g, s in enumerate(self.sensitivities) if s.unmeasured}

    @property
    def rows(self) -> list[Row]:
        """The error of every group at every width; blocks may go whole where that was measured."""
        errors = [sensitivity.errors for sensitivity in self.sensitivities]
        blocks = {
            root: block.inside
            for root, block in self.analysis.blocks.items()
            if 0 in self.sensitivities[root].measured
        }
        return channel_rows(self.analysis.groups, errors, blocks)

    def divergences(self, widths: Ints) -> list[GroupDivergence]:
        """The curves of all groups that were measured, cut to (n_groups,) widths."""
        pairs = zip(self.sensitivities, widths.tolist(), strict=True)
        return [
            group_divergence(row.group.name, row.errors, row.measured, width)
            for row, width in pairs
            if not row.unmeasured
        ]

    @property
    def failures(self) -> list[str]:
        """What the report says about these groups."""
        groups = self.analysis.groups
        return [
            f"group '{groups[g].name}' was not measured and stays whole: {why}"
            for g, why in self.unmeasured.items()
        ]

    @property
    def part(self) -> Part:
        """The groups that were measured."""
        groups, left = self.analysis.groups, self.unmeasured
        named = {groups[g].name: why for g, why in left.items()}
        return Part(len(groups), len(groups) - len(left), named)


def prune_calibrated(
    analysis: Analysis, budgets: Mapping[str, float], options: Settings
) -> list[Stage]:
    """Prune to absolute budgets in `options.steps` steps; the last stage holds the result.

    Args:
        analysis: the model, with a bias in every layer.
        budgets: largest value per metric; for latency the share of what the model takes.
        options: how.

    Raises:
        TargetError: the budgets are out of reach.
        ProofError: a step is not exact.
    """
    stages: list[Stage] = []
    store, taken = step_cache.folder_of(options), 0
    now = analysis
    for step in range(options.steps):
        left = options.steps - step
        if stages:
            now = analyze(stages[-1].model, options, biases=True)
        teacher = _teacher(analysis, now, stages, options)
        reached = _reached(analysis, now, stages, "latency" in budgets, options)
        asked = _step_budgets(budgets, reached, left)
        make = partial(_step, now, asked, teacher, options)
        if store is None or left == 1:
            stages.append(make())
            continue
        model = save.digest(analysis.original, analysis.original)
        run = step_cache.run_key(model, teacher.data.digest, budgets, options)
        stage, known = step_cache.resumed(store, f"{run}-{step + 1}", now, make)
        stages.append(stage)
        taken += known
    notes = [f"{taken} finished steps were taken from {store}"] if taken else []
    return [*stages[:-1], replace(stages[-1], notes=(*stages[-1].notes, *notes))]


def _teacher(
    first: Analysis, now: Analysis, stages: Sequence[Stage], options: CalibrationSettings
) -> Teacher:
    """The model before the first step, with samples in batches that the model `now` takes."""
    data = calibration(options.calib, first.original, options, now.nodes)
    gone = reduce(plan_file.compose, (stage.plan for stage in stages), Plan({}, {}))
    return Teacher(first.model, first.read, data, gone)


def _step_budgets(
    budgets: Mapping[str, float], reached: Mapping[str, float], left: int
) -> dict[str, float]:
    """Budgets of the next of `left` steps, each of which takes the same factor off.

    Args:
        budgets: what must hold after the last step.
        reached: what the model takes now, per metric; latency in shares of the first model's.
        left: steps that are left, this one among them.

    Returns:
        Amounts per metric; for latency the share of what the model takes now.
    """
    asked = {
        metric: limit * (max(reached[metric], limit) / limit) ** (1 - 1 / left)
        for metric, limit in budgets.items()
    }
    if "latency" in asked:
        asked["latency"] = min(asked["latency"] / reached["latency"], 1.0)
    return asked


def _reached(
    first: Analysis, now: Analysis, stages: Sequence[Stage], timed: bool, options: DeviceSettings
) -> dict[str, float]:
    """What the model takes before a step, per metric; latency in shares of the first model's."""
    reached = {**dict(zip(METRICS, now.cost.full.tolist(), strict=True)), "latency": 1.0}
    if stages and timed:
        reached["latency"] = search.ratio(first.original, stages[-1].model, first, options)
    return reached


def _step(
    analysis: Analysis, budgets: Mapping[str, float], teacher: Teacher, options: Settings
) -> Stage:
    """Measure, allocate, cut and refit once; layers aim at what the teacher gives."""
    measured = measured_groups(analysis, teacher.data, options)

    def make(asked: Mapping[str, float]) -> Stage:
        widths = widths_of(measured, asked, options)
        stage, schedule = refitted(measured, widths, teacher, options)
        if schedule is None or excess_bytes(stage, budgets) > 0:
            return stage  # nothing is learnt before it is thrown away
        return distilled(measured.analysis, stage, schedule, options)

    stage = within_size(budgets, make)
    source = f"calibrated on {teacher.data.samples} samples: {teacher.data.source}"
    before = (*measured.notes, *measured.failures)
    notes = (source, *teacher.data.notes, *before, *_removed_blocks(stage), *stage.notes)
    counted = stage.counted
    if counted is not None:  # biases that stayed zero go
        counted = counted - [0, zero_biases.spare_parameters(stage.model), 0, 0]
    return replace(stage, model=zero_biases.unbiased(stage.model), counted=counted, notes=notes)


def widths_of(measured: Measured, budgets: Mapping[str, float], options: Settings) -> Ints:
    """(n_groups,) widths with little divergence; blocks go whole where that was measured."""
    analysis, rows = measured.analysis, measured.rows
    if options.blocks:
        whole = measured.unmeasured
        rows = [row if whole.keys().isdisjoint(row.unit.along) else row.alone() for row in rows]
        return remove_blocks(analysis.cost, rows, options.blocks)
    return widths_for(analysis, rows, budgets, options, measured.unmeasured.keys())


def _removed_blocks(stage: Stage) -> list[str]:
    """Which residual blocks the cut removed."""
    names = [stage.analysis.groups[b.root].name for b in gone_blocks(stage.analysis, stage.kept)]
    what = "their shortcuts and a bias are left of"
    return [f"{what} {len(names)} residual blocks: {', '.join(names)}"] if names else []


def measured_groups(analysis: Analysis, data: Calibration, options: Settings) -> Measured:
    """Sensitivities of all groups, from the cache where they are known."""
    options.progress("ranking", 0.1)
    ranked, scores = rank_on_samples(analysis, data, options)

    @cache
    def arrays() -> dict[str, Floats]:
        return channel_arrays(ranked, scores, data)

    def key() -> str:
        model = save.digest(ranked.model, ranked.model)
        return sensitivities_key(model, data.digest, ranked.groups, options, "biased")

    def measure() -> list[Sensitivity]:
        progress = between(options.progress, "measuring", 0.1, 0.4)
        progress(0.0)
        return measure_channels(ranked, arrays(), data, options, progress)

    sensitivities, notes = cached_sensitivities(options.cache, key, ranked.groups, measure)
    arranged = ranked.with_groups(sensitivity.group for sensitivity in sensitivities)
    return Measured(arranged, sensitivities, notes, lambda: grams_of(arrays()))


def refitted(
    measured: Measured, widths: Ints, teacher: Teacher, options: CalibrationSettings
) -> tuple[Stage, Schedule | None]:
    """Cut to widths with everything behind refitted and proved; what it may still learn."""
    analysis = measured.analysis
    errors = zip(measured.sensitivities, widths.tolist(), strict=True)
    lost = sum(float(sensitivity.errors[width]) for sensitivity, width in errors)
    cost = Cost(float(analysis.cost.full[0]), float(analysis.cost.at(widths)[0]), lost)
    more = further_samples(options, analysis.original, analysis.nodes)
    fit, schedule = schedule_for(options.distill, teacher.data, cost, more=more)
    options.progress("refitting", 0.4)
    result = compensate(
        analysis,
        best_channels(measured.sensitivities, widths),
        replace(teacher, data=fit),
        between(options.progress, "refitting", 0.4, 0.5),
        measured.grams,
    )
    ready = analysis.with_weights(result.patches).with_groups(result.groups)
    layers = refitted_part(analysis, result.refitted, result.failed)
    notes = [
        f"layer '{name}' keeps its weights: {why}"
        for name, why in layers.left.items()
        if why in result.failed.values()
    ]
    with running(ready, options) as original:
        stage = cut(ready, result.kept, options, original)
    reach = Reach(layers, measured.part)
    told = (*stage.notes, *notes)
    rows = measured.divergences(widths)
    return replace(stage, notes=told, reach=reach, as_given=False, divergences=rows), schedule


def distilled(
    analysis: Analysis, stage: Stage, schedule: Schedule, options: CalibrationSettings
) -> Stage:
    """All layers tuned together, with a note about it."""
    student = analyze(stage.model, options)
    progress = between(options.progress, "distilling", 0.5, 0.6)
    result = distill(analysis, Student(student, stage.plan), schedule, progress)
    if result is None:
        notes = (*stage.notes, schedule.hindrance)
        return replace(stage, counted=student.cost.full, notes=notes)
    model = patch(stage.model, result.patches)
    reach = None if stage.reach is None else replace(stage.reach, parameters=result.reached)
    notes = (*stage.notes, result.note)
    return replace(stage, model=model, counted=student.cost.full, notes=notes, reach=reach)
