"""Carry out a recipe: stage after stage, each measured against the original."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from onnxprune.atomic_files import Store
from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.errors import InputError
from onnxprune.groups.analysis import load
from onnxprune.importance.criteria import CRITERIA
from onnxprune.ir import external_data as external
from onnxprune.ir import graph, runtime, shape_inference
from onnxprune.ir import inputs as feeding
from onnxprune.ir import save as saving
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ops.registry import COUPLINGS
from onnxprune.pipeline import compare, score_search
from onnxprune.pipeline.model_store import keep_model, kept_model
from onnxprune.pipeline.prune import prune
from onnxprune.pipeline.quantize import Quantization, quantize
from onnxprune.pipeline.recipe import SETTINGS_OF, Recipe, StageOf
from onnxprune.pipeline.sparsify import sparsify
from onnxprune.report.report import amount, table
from onnxprune.settings import (
    ScoreSettings,
    Settings,
    SettingsChanges,
    settings_key,
    settings_of,
)
from onnxprune.user_code import Function, registered

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RecipeResult", "StageReport", "run", "stage_key"]


@dataclass(frozen=True)
class StageReport:
    """What one stage gave: bytes, drift, top-1, score and latency beside the original's.

    `details` is the stage's own report; `resumed`: it was finished in a run before.
    """

    kind: str
    bytes: int
    seconds: float
    fidelity: Mapping[str, Any]
    latency_ms: tuple[float, float] | None
    score: float | None
    details: Mapping[str, Any]
    resumed: bool = False


@dataclass(frozen=True)
class RecipeResult:
    """The result of a recipe and the report of every stage; `hash` tells runs apart."""

    stored: ModelProto
    hash: str
    bytes: int
    stages: Sequence[StageReport]
    environment: Mapping[str, Any]
    score: float | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def model(self) -> ModelProto:
        """The model with all weights in memory."""
        return external.inlined(self.stored)

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model, see `onnxprune.ir.save.save`."""
        return saving.save(self.stored, Path(path), external_data)

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "recipe": self.hash,
            "bytes": self.bytes,
            "score": self.score,
            "stages": [asdict(stage) for stage in self.stages],
            "environment": dict(self.environment),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """One line for each stage."""
        head = ("stage", "file", "ratio", "latency", "top-1", "agreement", "score")
        first = ("original", amount(self.bytes, "bytes"), "1.000", "", "", "", _number(self.score))
        rows: list[Sequence[str]] = [head, first]
        for stage in self.stages:
            drift, times = stage.fidelity, stage.latency_ms
            right = drift.get("accuracy")
            agree = drift.get("agreement")
            rows.append(
                (
                    stage.kind + (" (resumed)" if stage.resumed else ""),
                    amount(stage.bytes, "bytes"),
                    f"{stage.bytes / max(self.bytes, 1):.3f}",
                    "" if times is None else f"{times[1]:.3g} ms ({times[1] / times[0]:.2f})",
                    "" if right is None else f"{right[0]:.2%} → {right[1]:.2%}",
                    "" if agree is None else f"{agree:.1%}",
                    _number(stage.score),
                )
            )
        notes = [f"note      {note}" for note in self.notes]
        return "\n".join([table(rows), f"recipe    {self.hash}", *notes])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


@dataclass(frozen=True)
class Reference:
    """The original, and what the models after each stage are compared with it on.

    `inputs` are seeded, `data` the user's own with labels, `score` the user's function.
    """

    model: ModelProto
    inputs: feeding.Feeds
    data: feeding.Data | None
    score: Function | None
    settings: ScoreSettings


@dataclass(frozen=True)
class Made:
    """The model after a stage, the stage's own report, and how it came about."""

    model: ModelProto
    details: Mapping[str, Any]
    seconds: float
    resumed: bool = False


def run(
    recipe: Recipe,
    model: Source,
    settings: Settings | None = None,
    finished: str | os.PathLike[str] | None = None,
    **changes: Unpack[SettingsChanges],
) -> RecipeResult:
    """Carry out all stages, each on the model that the one before it made.

    Args:
        recipe: see `onnxprune.pipeline.recipe`.
        model: path or ModelProto; it is not changed.
        settings: what is measured and on what; settings of the recipe count more.
        finished: folder that keeps finished stages.
        **changes: single fields of `settings` to override.

    Raises:
        InputError: an option of a stage cannot be used.
        TargetError: a stage's target is out of reach.
        ProofError: a stage did not do what it should.
    """
    options = settings_of(settings, {**changes, **recipe.common})
    if options.max_drop is not None:
        raise InputError("max_drop searches for one target: give it to prune, not to a recipe")
    original = load(model)
    samples = None if options.calib is None else calibration(options.calib, original, options)
    reference = _reference(original, options)
    plain = replace(options, calib=samples, latency=False, data=None, evaluate=None)
    store = None if finished is None else Store(Path(finished))
    key, current, reports = saving.digest(model, original), original, list[StageReport]()
    for stage in recipe.stages:
        key = stage_key(key, stage, plain, "" if samples is None else samples.digest)
        made = _finished(store, key) or _make(stage, current, plain, samples)
        if store is not None and not made.resumed:
            keep_model(store, key, made.model, {"details": made.details})
        reports.append(_report(stage.kind, made, reference))
        current = made.model
    return RecipeResult(
        current,
        key,
        saving.file_bytes(original),
        reports,
        options.environment(),
        _scored(original, reference),
    )


def stage_key(before: str, stage: StageOf, settings: Settings, samples: str) -> str:
    """Digest what the model after a stage depends on.

    Args:
        before: digest of the original, or of what the model after the stage before depends on.
        stage: its kind and options, which count more than `settings`.
        settings: those of all stages.
        samples: digest of the calibration samples.
    """
    own = {k: v for k, v in stage.options.items() if k in SETTINGS_OF[stage.kind]}
    others = {k: v for k, v in stage.options.items() if k not in own}
    target = others.get("target")
    return settings_key(
        settings_of(settings, own),
        before,
        stage.kind,
        others,
        registered(CRITERIA, COUPLINGS),
        samples=samples,
        timed=isinstance(target, Mapping) and "latency" in target,
    )


def _reference(original: ModelProto, options: Settings) -> Reference:
    sample = shape_inference.sample_shapes(original, options.input_shapes)
    nodes = shape_inference.describe(original, options.input_shapes)
    return Reference(
        original,
        feeding.seeded(original, nodes, sample, options.seed),
        None if options.data is None else feeding.load_data(options.data, original),
        None if options.evaluate is None else score_search.scorer(options.evaluate),
        options,
    )


def _finished(store: Store | None, key: str) -> Made | None:
    """A stage that was finished in a run before, with its weights in memory."""
    start = perf_counter_ns()
    kept = None if store is None else kept_model(store, key)
    if kept is None or "details" not in kept.facts:
        return None
    model = external.inlined(kept.model)
    return Made(model, kept.facts["details"], (perf_counter_ns() - start) / 1e9, resumed=True)


def _make(
    stage: StageOf, model: ModelProto, settings: Settings, samples: Calibration | None
) -> Made:
    """Carry out one stage."""
    start, options = perf_counter_ns(), dict(stage.options)
    details: Mapping[str, Any]
    if stage.kind == "quantise":
        made, details = quantize(model, Quantization(**options), samples), {"asked": options}
    elif stage.kind == "sparsify":
        sparse = sparsify(model, None, settings, **options)
        made, details = external.inlined(sparse.stored), sparse.report.values()
    else:
        pruned = prune(model, options.pop("target", None), settings, **options)
        made, details = pruned.model, pruned.report.values()
    return Made(made, details, (perf_counter_ns() - start) / 1e9)


def _report(kind: str, made: Made, reference: Reference) -> StageReport:
    """Compare the model after a stage with the original."""
    seen = compare.compare_models(
        (reference.model, made.model), reference.inputs, reference.data, reference.settings
    )
    times = seen.latency
    return StageReport(
        kind,
        saving.file_bytes(made.model),
        made.seconds,
        asdict(seen.drift),
        None if times is None else (times[0].median_ms, times[1].median_ms),
        _scored(made.model, reference),
        made.details,
        made.resumed,
    )


def _scored(model: ModelProto, reference: Reference) -> float | None:
    """The user's score of a model, None without a function."""
    if reference.score is None:
        return None
    content = graph.model_bytes(external.inlined(model))
    return float(reference.score(runtime.open_session(content, reference.settings.device)))
