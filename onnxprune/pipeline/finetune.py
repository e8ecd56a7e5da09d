"""Fine-tune a model on labels and on a teacher, and measure what that changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.atomic_files import Store
from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.frozen import excluded_axes
from onnxprune.ir import external_data, graph, runtime, save, shape_inference
from onnxprune.ir import inputs as feeding
from onnxprune.ir.blas import one_thread
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.input_sizes import shapes_of_samples
from onnxprune.ir.load import Source
from onnxprune.ir.model import read_model
from onnxprune.ir.patch import patch
from onnxprune.ir.runtime import Device
from onnxprune.ir.widen import widened
from onnxprune.pipeline import compare, score_search
from onnxprune.report.training import TrainingReport
from onnxprune.settings import Progress, Settings, settings_key, settings_of
from onnxprune.training.checkpoint import Checkpoint
from onnxprune.training.options import FIELDS, Training
from onnxprune.training.own_loss import with_label_inputs, with_own_losses
from onnxprune.training.samples import SampleSet, labelled, unlabelled
from onnxprune.training.teacher import check_teacher
from onnxprune.training.tune import Place, Tuned, tune
from onnxprune.user_code import content_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

__all__ = ["SETTINGS", "FinetuneChanges", "Finetuned", "finetune"]

#: The settings of `prune` that fine-tuning understands.
SETTINGS = (
    "calib calib_samples exclude seed input_shapes device scratch progress evaluate batch".split()
)


class FinetuneChanges(TypedDict, total=False):
    """The fields of `Training`, and the settings that fine-tuning understands, as keywords.

    `test` are samples with labels that the result is measured on.
    """

    loss: Mapping[str, float] | None
    epochs: int
    rate: float
    warmup: float
    batch_size: int
    held_out: float
    patience: int | None
    augment: bool
    qat: str | None
    test: str | Path | Mapping[str, NDArray[Any]] | None
    calib: Any
    calib_samples: int
    exclude: Sequence[str]
    seed: int
    input_shapes: Mapping[str, Sequence[int]] | None
    device: Device
    scratch: str | Path | None
    progress: Progress
    evaluate: str | Callable[[Any], float] | None


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model, all weights in memory, and what was measured."""

    model: ModelProto
    report: TrainingReport

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model, see `onnxprune.ir.save.save`."""
        return save.save(self.model, Path(path), external_data)


@dataclass(frozen=True)
class _Lessons:
    """What a model is trained on, and the teacher."""

    sets: Sequence[SampleSet]
    teacher: Analysis | None
    taught: str


@one_thread()
def finetune(
    model: Source,
    data: Any = None,
    teacher: Source | None = None,
    finished: str | os.PathLike[str] | None = None,
    **changes: Unpack[FinetuneChanges],
) -> Finetuned:
    """Fine-tune a model: `finetune("small.onnx", "train.npz", "original.onnx", epochs=20)`.

    Args:
        model: path or ModelProto; it is not changed.
        data: samples with labels: all that `calib` may be, with an array `labels`; None: none.
        teacher: a model with the same outputs, which samples in `data` and `calib` are shown.
        finished: folder that keeps how far the run is, so that one that was stopped goes on.
        **changes: fields of `Training`, settings, and `test`: samples to measure on.

    Raises:
        InputError: a model, data or an option cannot be used, or nothing can be trained.
    """
    training, options = _settled(changes)
    store = None if finished is None else Store.at(finished)
    options.progress("reading", 0.0)
    proto = external_data.inlined(read_model(model).proto)
    _refuse_quantised(proto)
    test = None if options.data is None else feeding.load_data(options.data, proto)
    score = None if options.evaluate is None else score_search.scorer(options.evaluate)
    sets = _samples(proto, data, options)
    options = _sized(options, sets[0])
    lessons = _Lessons(sets, *_teacher(teacher, proto, options))
    student, lessons, own = _student(proto, training, lessons, options)
    stay = {one.axis.tensor for one in excluded_axes(student.nodes, options.exclude)}
    place = _place(proto, training, lessons, options, store)
    place = replace(place, excluded=stay, own=own)
    tuned = tune(student, lessons.teacher, lessons.sets, training, place)
    made = _made(proto, student, tuned.trained.weights, options)
    options.progress("comparing", 0.95)
    report = _report(compare.ModelPair(proto, made), tuned, training, test, options)
    if score is not None:
        before, after = (float(score(_session(one, options))) for one in (proto, made))
        evaluation = {"function": score.name, "before": before, "after": after}
        report = replace(report, evaluation=evaluation)
    options.progress("done", 1.0)
    return Finetuned(made, report)


def _settled(changes: Mapping[str, Any]) -> tuple[Training, Settings]:
    """How to train, and all other settings, checked."""
    own = {k: v for k, v in changes.items() if k in FIELDS}
    others = {k: v for k, v in changes.items() if k not in FIELDS}
    known = (*SETTINGS, "test")
    if unknown := others.keys() - set(known):
        raise InputError(
            f"unknown setting '{min(unknown)}'. There are: {', '.join((*FIELDS, *known))}"
        )
    settings = {("data" if k == "test" else k): v for k, v in others.items()}
    return Training(**own), settings_of(Settings(latency=False), settings)


def _refuse_quantised(model: ModelProto) -> None:
    """Refuse a model whose layers compute with bytes."""
    for node in graph.walk(model):
        op = graph.op_key(node)
        if op in ops.DECODERS or ops.encodes(op):
            raise InputError(
                f"the model is quantised ({node.op_type} '{graph.label(node)}'): give the "
                "model of floating point, and quantise what it becomes"
            )


def _samples(proto: ModelProto, data: Any, options: Settings) -> list[SampleSet]:
    """Samples with labels first, then those without."""
    sets = [] if data is None else [labelled(data, proto, options.folder)]
    if options.calib is not None:
        nodes = shape_inference.describe(proto, ops.traits(), options.input_shapes)
        found: Calibration = calibration(options.calib, proto, options, nodes)
        sets.append(unlabelled(found))
    if not sets:
        raise InputError("nothing to learn from: give samples with labels (--data), or --calib")
    return sets


def _sized(options: Settings, samples: SampleSet) -> Settings:
    """The options with the sizes of samples, where the user states none."""
    if options.input_shapes:
        return options
    shapes = shapes_of_samples(dict(samples.batches[0].feeds), samples.whole)
    return replace(options, input_shapes=shapes)


def _teacher(
    source: Source | None, proto: ModelProto, options: Settings
) -> tuple[Analysis | None, str]:
    """The teacher and its digest."""
    if source is None:
        return None, ""
    read = read_model(source)
    check_teacher(read.proto, proto)
    return analyze(widened(external_data.inlined(read.proto)), options), read.digest


def _place(
    proto: ModelProto,
    training: Training,
    lessons: _Lessons,
    options: Settings,
    store: Store | None,
) -> Place:
    """Where and how the run takes place."""

    def told(share: float, text: str) -> None:
        options.progress(f"training, {text}", 0.1 + 0.85 * share)

    device = options.device.all_threads
    if store is None:
        return Place(options.seed, device, None, told)
    samples = " ".join(one.digest for one in lessons.sets)
    code = [content_of(text) for text in training.own_losses]
    facts = ("finetune", save.digest(proto, proto), lessons.taught, training, code)
    key = settings_key(replace(options, evaluate=None), *facts, samples=samples)
    return Place(options.seed, device, Checkpoint(store, key), told)


def _student(
    proto: ModelProto, training: Training, lessons: _Lessons, options: Settings
) -> tuple[Analysis, _Lessons, dict[str, float]]:
    """The model that is trained, in float32, with losses of the user's own behind it.

    Returns:
        It, its samples with the labels that these losses read among the inputs, and by name of a
        tensor that is such a loss how much it counts.
    """
    wide, own = widened(proto), training.own_losses
    if not own:
        return analyze(wide, options), lessons, {}
    first = lessons.sets[0]
    if not all(one.labelled == first.labelled for one in lessons.sets):
        raise InputError("a loss of your own reads labels: leave out --calib, or --data")
    sets = [with_label_inputs(one) for one in lessons.sets]
    made = with_own_losses(wide, list(own), first.batches[0].labels)
    sized = _sized(replace(options, input_shapes=None), sets[0])
    weights = dict(zip(made.names, own.values(), strict=True))
    return analyze(made.model, sized), replace(lessons, sets=sets), weights


def _made(
    proto: ModelProto, student: Analysis, weights: Mapping[str, NDArray[Any]], options: Settings
) -> ModelProto:
    """The model with new weights: the graph as it was given, where all of them are stored in it."""
    if not weights:
        return proto
    alike = not student.copies and weights.keys() <= graph.constants(proto).keys()
    return patch(proto if alike else analyze(proto, options).model, weights)


def _session(model: ModelProto, options: Settings) -> Any:
    return runtime.open_session(graph.model_bytes(model), options.device)


def _report(
    models: compare.ModelPair,
    tuned: Tuned,
    training: Training,
    test: feeding.Data | None,
    options: Settings,
) -> TrainingReport:
    """Compare the model with what it was."""
    proto, made = models.original, models.pruned
    nodes = shape_inference.describe(proto, ops.traits(), options.input_shapes)
    shapes = shape_inference.sample_shapes(proto, options.input_shapes)
    feeds = feeding.seeded(proto, ops.index_bounds(nodes), shapes, options.seed)
    seen = compare.compare_models(models, compare.SeededInputs(feeds), test, options)
    plain = Training()
    asked = {k: v for k in FIELDS if (v := getattr(training, k)) != getattr(plain, k)}
    notes = list(seen.notes)
    if tuned.trained.resumed:
        notes.insert(0, f"went on in epoch {tuned.trained.resumed}, where a run was stopped")
    return TrainingReport(
        asked,
        tuned.losses,
        tuned.samples,
        [epoch[:2] for epoch in tuned.history],
        tuned.trained.best,
        tuned.reached,
        (save.file_bytes(proto), save.file_bytes(made)),
        seen.drift,
        options.environment(),
        notes,
    )
