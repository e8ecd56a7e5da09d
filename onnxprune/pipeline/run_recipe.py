"""Carry out a recipe: stage after stage, each measured against the original."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxprune import ops
from onnxprune.atomic_files import Store
from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.errors import InputError
from onnxprune.importance.criteria import CRITERIA, load_criterion
from onnxprune.ir import external_data, shape_inference
from onnxprune.ir import inputs as feeding
from onnxprune.ir.blas import one_thread
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import Model, read_model
from onnxprune.ops.registry import COUPLINGS
from onnxprune.pipeline import compare, score_search
from onnxprune.pipeline.finetune import Finetuned, finetune
from onnxprune.pipeline.model_store import keep_model, kept_model
from onnxprune.pipeline.prune import prune
from onnxprune.pipeline.quantize import Quantization, quantized
from onnxprune.pipeline.recipe import SETTINGS_OF, STAGE_FILES, Recipe, StageOf
from onnxprune.pipeline.recipe_result import RecipeResult, StageReport
from onnxprune.pipeline.sample_run import sized_by_samples, sized_by_trying, with_samples
from onnxprune.pipeline.sparsify import sparsify
from onnxprune.pipeline.step_cache import block_sizes
from onnxprune.settings import (
    ScoreSettings,
    Settings,
    SettingsChanges,
    settings_key,
    settings_of,
)
from onnxprune.training.options import TEACHER, Training
from onnxprune.types import Node
from onnxprune.user_code import Function, content_of, is_function, registered

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["run", "stage_key"]


@dataclass(frozen=True)
class Reference:
    """The original, and what the models after each stage are compared with it on.

    Attributes:
        model: the original.
        inputs: seeded ones.
        data: the user's samples, perhaps with labels.
        score: the user's function from a session to a number.
        settings: what is measured, and on what.
    """

    model: Model
    inputs: feeding.Feeds
    data: feeding.Data | None
    score: Function | None
    settings: ScoreSettings


@dataclass(frozen=True)
class Made:
    """The model after a stage with its weights in memory, the stage's own report, how it came.

    `resumed`: it was finished in a run before.
    """

    model: Model
    details: Mapping[str, Any]
    seconds: float
    resumed: bool = False


class Setting(NamedTuple):
    """What all stages share: settings, calibration data, the original, the folder that keeps."""

    settings: Settings
    samples: Calibration | None
    original: ModelProto
    finished: str | os.PathLike[str] | None


def _check_files(recipe: Recipe) -> None:
    """Refuse files of stages that are missing, before the stages ahead take their time."""
    for stage in recipe.stages:
        for key in STAGE_FILES if stage.kind == "finetune" else ():
            name = stage.options.get(key)
            if isinstance(name, str) and not is_function(name) and not Path(name).exists():
                raise InputError(f"finetune: {key} '{name}': no such file. Correct the path.")


@one_thread()
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
    store = None if finished is None else Store.at(finished)
    _check_files(recipe)
    original = read_model(model)
    options = with_samples(options, original.proto)
    options = sized_by_samples(options, original.proto, options.calib)
    nodes = shape_inference.describe(original.proto, ops.traits(), options.input_shapes)
    options = sized_by_trying(options, original.proto, nodes)
    reference = _reference(original, nodes, options)
    samples = _samples(options.calib, original, nodes, options)
    more = _samples(options.more, original, nodes, options)
    plain = replace(options, calib=samples, more=more, latency=False, data=None, evaluate=None)
    setting = Setting(plain, samples, original.proto, finished)
    key, current, reports = original.digest, _in_memory(original.proto), list[StageReport]()
    for stage in recipe.stages:
        load_criterion(str(stage.options.get("importance", plain.importance)))
        key = stage_key(key, stage, plain, "" if samples is None else samples.digest)
        made = _finished(store, key) or _make(stage, current.proto, setting)
        if store is not None and not made.resumed:
            keep_model(store, key, made.model.proto, {"details": made.details})
        reports.append(_report(stage.kind, made, reference))
        current = made.model
    score = _scored(original, reference)
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    measured = options.environment()
    return RecipeResult(current, key, original.bytes, reports, measured, score, list(notes))


def stage_key(before: str, stage: StageOf, settings: Settings, samples: str) -> str:
    """Digest what the model after a stage depends on.

    Args:
        before: digest of the original, or of what the model after the stage before depends on.
        stage: its kind and options, which count more than `settings`.
        settings: those of all stages.
        samples: digest of the calibration samples.
    """
    known = SETTINGS_OF.get(stage.kind, ())
    own = {k: v for k, v in stage.options.items() if k in known}
    others = {k: v for k, v in stage.options.items() if k not in own}
    if stage.kind == "finetune":
        others = {k: _by_content(k, v) for k, v in others.items()}
    target = others.get("target")
    chosen = settings_of(settings, own)
    metrics = target if stage.kind == "prune" and isinstance(target, Mapping) else ()
    return settings_key(
        chosen,
        before,
        stage.kind,
        others,
        registered(CRITERIA, COUPLINGS),
        *([] if stage.function is None else [content_of(stage.function)]),
        block_sizes(metrics, chosen),
        samples=samples,
        timed=isinstance(target, Mapping) and "latency" in target,
    )


def _by_content(key: str, value: Any) -> Any:
    """An option of fine-tuning with files and code by what they hold."""
    if key == "loss" and isinstance(value, Mapping):
        return {k: [w, content_of(k) if is_function(k) else k] for k, w in value.items()}
    if key not in STAGE_FILES:
        return value
    folder = Path(value) if isinstance(value, str | os.PathLike) else None
    if folder is None or not folder.is_dir():
        return content_of(value)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), content_of(path)] for path in files]


def _samples(
    source: Any, original: Model, nodes: Sequence[Node], options: Settings
) -> Calibration | None:
    """The samples of all stages, from where the user says."""
    return None if source is None else calibration(source, original.proto, options, nodes)


def _reference(original: Model, nodes: Sequence[Node], options: ScoreSettings) -> Reference:
    """What the model after each stage is compared with, and on what inputs."""
    sample = shape_inference.sample_shapes(original.proto, options.input_shapes)
    return Reference(
        original,
        feeding.seeded(original.proto, ops.index_bounds(nodes), sample, options.seed),
        None if options.data is None else feeding.load_data(options.data, original.proto),
        None if options.evaluate is None else score_search.scorer(options.evaluate),
        options,
    )


def _finished(store: Store | None, key: str) -> Made | None:
    """Take a stage that was finished in a run before; None if there is none."""
    start = perf_counter_ns()
    kept = None if store is None else kept_model(store, key)
    if kept is None or "details" not in kept.facts:
        return None
    return Made(_in_memory(kept.model), kept.facts["details"], _since(start), resumed=True)


def _make(stage: StageOf, model: ModelProto, setting: Setting) -> Made:
    """Carry out one stage."""
    start, options = perf_counter_ns(), dict(stage.options)
    settings, samples = setting.settings, setting.samples
    details: Mapping[str, Any]
    if stage.function is not None:
        offered = Function(f"stage '{stage.kind}'", partial(stage.function, **options))
        made, details = _offered(offered, model), {"asked": options}
    elif stage.kind == "quantise":
        made, notes = quantized(model, Quantization(**options), samples)
        details = {"asked": options, "notes": notes}
    elif stage.kind == "finetune":
        tuned = _finetuned(model, setting, options)
        made, details = tuned.model, tuned.report.values()
    elif stage.kind == "sparsify":
        sparse = sparsify(model, None, settings, **options)
        made, details = sparse.stored, sparse.report.values()
    else:
        pruned = prune(model, options.pop("target", None), settings, **options)
        made, details = pruned.model, pruned.report.values()
    return Made(_in_memory(made), details, _since(start))


def _finetuned(model: ModelProto, setting: Setting, options: dict[str, Any]) -> Finetuned:
    """Fine-tune, with the original as the teacher unless another one is named.

    Samples of the recipe have no labels: they are left out where losses would ask for them.
    """
    settings, data = setting.settings, options.pop("data", None)
    teacher = options.pop("teacher", setting.original)
    losses = Training(loss=options.get("loss"))
    named = losses.loss is not None and (TEACHER not in losses.loss or bool(losses.own_losses))
    of_labels = data is not None and (named or teacher is None)
    return finetune(
        model,
        data,
        teacher,
        setting.finished,
        **{
            "calib": None if of_labels else setting.samples,
            "seed": settings.seed,
            "input_shapes": settings.input_shapes,
            "device": settings.device,
            "scratch": settings.scratch,
            "progress": settings.progress,
            **options,
        },
    )


def _offered(stage: Function, model: ModelProto) -> ModelProto:
    """Carry out a stage that a plug-in offers, on a copy of the model."""
    copied = ModelProto()
    copied.CopyFrom(model)
    made = stage(copied)
    if not isinstance(made, ModelProto):
        raise InputError(f"{stage.name} gave {type(made).__name__}: return a ModelProto")
    return made


def _in_memory(model: ModelProto) -> Model:
    """A model that needs no file of the stage that made it."""
    whole = external_data.inlined(model)
    return Model(whole, whole)


def _since(start: int) -> float:
    """Seconds since a moment that `perf_counter_ns` gave."""
    return (perf_counter_ns() - start) / 1e9


def _report(kind: str, made: Made, reference: Reference) -> StageReport:
    """Compare the model after a stage with the original."""
    seen = compare.compare_models(
        compare.ModelPair(reference.model.proto, made.model.proto),
        compare.SeededInputs(reference.inputs),
        reference.data,
        reference.settings,
    )
    times = seen.latency
    return StageReport(
        kind,
        made.model.bytes,
        made.seconds,
        asdict(seen.drift),
        None if times is None else (times[0].median_ms, times[1].median_ms),
        _scored(made.model, reference),
        made.details,
        made.resumed,
        [*(made.details.get("notes", ()) if kind == "quantise" else ()), *seen.notes],
        times,
    )


def _scored(model: Model, reference: Reference) -> float | None:
    """The user's score of a model, None without a function."""
    if reference.score is None:
        return None
    return float(reference.score(model.session(reference.settings.device)))
