"""Compare two models: drift of the outputs, latency in turns, accuracy where labels are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import external_data, graph, runtime, timing
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.stopwatch import TimedModel
from onnxprune.pipeline.fidelity import OutputPair, fidelity
from onnxprune.pipeline.saturation import Samples, saturation_notes
from onnxprune.progress import between
from onnxprune.report.values import Fidelity, Measured
from onnxprune.settings import DeviceSettings, Progress
from onnxprune.surgery.proof import Outputs, ProofRun

__all__ = [
    "Comparison",
    "ModelPair",
    "SeededInputs",
    "compare_models",
    "files_of",
    "is_slower",
    "measured",
    "median_latency_ms",
]

#: Seconds of runs that take turns, and in how many parts they are judged.
SECONDS, PARTS = 1.0, 8
#: The share of the original's time above which a model is slower, in the lower quartile of parts.
SLOWER = 1.02
Runner: TypeAlias = Callable[[feeding.Feeds], Outputs]
#: Models with more bytes of weights are timed only from files: each session would hold a copy.
TIMED = 2**30
_NOT_TIMED = (
    "latency was not measured: two sessions would hold all weights. `onnxprune check` on the two "
    "files measures it"
)


class ModelPair(NamedTuple):
    """The models to compare.

    Attributes:
        original: the first.
        pruned: the second; its inputs and outputs are those of the first.
        files: paths of both, if both lie in files: onnxruntime then opens large ones itself.
    """

    original: ModelProto
    pruned: ModelProto
    files: tuple[str, str] | None = None


class SeededInputs(NamedTuple):
    """What models are compared on where the user gives no data, and how they are timed.

    Attributes:
        feeds: by input name.
        outputs: of original and pruned model on them, if both have run already.
    """

    feeds: feeding.Feeds
    outputs: tuple[Outputs, Outputs] | None = None


def files_of(original: Source, pruned: Source) -> tuple[str, str] | None:
    """The paths of two models; None if one of them is in memory."""
    if isinstance(original, ModelProto) or isinstance(pruned, ModelProto):
        return None
    return str(original), str(pruned)


@dataclass(frozen=True)
class Comparison:
    """Drift, and latency of original and pruned model if it was asked for.

    `slower`: the pruned model takes more time, and that is no chance.
    """

    drift: Fidelity
    latency: tuple[timing.Latency, timing.Latency] | None
    notes: Sequence[str] = ()
    slower: bool | None = None


def compare_models(
    models: ModelPair, seeded: SeededInputs, data: feeding.Data | None, options: DeviceSettings
) -> Comparison:
    """Compare two models on the user's data, or on seeded inputs.

    Args:
        models: original and pruned.
        seeded: inputs in place of data, and for timings.
        data: the user's samples, None: seeded inputs.
        options: whether to measure latency, on what device, and whom to tell about progress.
    """
    large = max(graph.stored_bytes(models.original), graph.stored_bytes(models.pruned)) > TIMED
    timed = options.latency and (not large or models.files is not None)
    notes = [_NOT_TIMED] if options.latency and not timed else []
    known = seeded.outputs if data is None else None
    sessions = list[Any]()
    if (timed and options.stopwatch.here) or (known is None and not large):
        sessions = [
            runtime.open_session(content, options.device) for content in _contents(models, large)
        ]
    if known is not None:
        drift = fidelity([OutputPair(*known)], "seeded inputs")
    else:
        runners: list[Runner] = [partial(runtime.run, session) for session in sessions]
        runners = runners or [ProofRun(model).run for model in models[:2]]
        drift = _drift(runners, models.original, seeded.feeds, data, options.progress)
    notes += _saturation(models, seeded.feeds, data, options)
    if not timed:
        return Comparison(drift, None, notes)
    feeds = feeding.batched(models.original, seeded.feeds, options.batch)
    subjects = sessions if options.stopwatch.here else _contents(models, large)
    times = options.stopwatch.rounds(
        [TimedModel(subject, feeds) for subject in subjects],
        SECONDS,
        between(options.progress, "timing", 0.8, 1.0),
    )
    first, second = map(timing.latency_of, times.T)
    return Comparison(drift, (first, second), notes, is_slower(times))


def is_slower(times: NDArray[np.float64]) -> bool:
    """Whether the second of two models is slower, beyond what chance does.

    The runs are split into `PARTS` in the order that they were made. A machine that is busy for a
    while slows a few of them; what is slower is so in three of four.

    Args:
        times: (rounds, 2) of both in turns, in any unit.
    """
    parts = np.array_split(times, min(PARTS, len(times)))
    ratios = [float(np.median(part[:, 1]) / np.median(part[:, 0])) for part in parts]
    return float(np.percentile(ratios, 25)) > SLOWER


def _saturation(
    models: ModelPair, feeds: feeding.Feeds, data: feeding.Data | None, options: DeviceSettings
) -> list[str]:
    """What this processor makes of products of bytes, on one batch of what is compared on."""
    samples = Samples(feeds, "seeded inputs")
    if data is not None:
        first = next(feeding.batches(data, models.original), None)
        samples = samples if first is None else Samples(first[0], "the first of the given data")
    named = {"the original": models.original, "the other model": models.pruned}
    return saturation_notes(named, samples, options.device)


def _contents(models: ModelPair, large: bool) -> Iterator[bytes | str]:
    """Both models serialised, `large` ones as the paths of their files."""
    if large and models.files is not None:
        yield from models.files
        return
    for model in models[:2]:
        yield graph.model_bytes(external_data.inlined(model))


def _drift(
    runners: Sequence[Runner],
    original: ModelProto,
    inputs: feeding.Feeds,
    data: feeding.Data | None,
    progress: Progress,
) -> Fidelity:
    """Run both models on the user's data, or on seeded inputs without any."""
    if data is not None:
        return fidelity(_output_pairs(runners, data, original, progress), "the given data")
    return fidelity([OutputPair(runners[0](inputs), runners[1](inputs))], "seeded inputs")


def _output_pairs(
    runners: Sequence[Runner], data: feeding.Data, original: ModelProto, progress: Progress
) -> Iterator[OutputPair]:
    done, told = 0, between(progress, "comparing", 0.6, 0.8)
    for inputs, labels in feeding.batches(data, original):
        yield OutputPair(runners[0](inputs), runners[1](inputs), labels)
        done += len(next(iter(inputs.values())))
        told(done / len(data))


def median_latency_ms(analysis: Analysis, options: DeviceSettings) -> float:
    """Measure the original's median latency on seeded inputs."""
    inputs = feeding.seeded(
        analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, options.seed
    )
    content = graph.model_bytes(external_data.inlined(analysis.original))
    feeds = feeding.batched(analysis.model, inputs, options.batch)
    rounds = options.stopwatch.rounds([TimedModel(content, feeds)], SECONDS)
    return timing.latency_of(rounds[:, 0]).median_ms


def measured(
    cost: NDArray[np.float64],
    model: ModelProto,
    latency: timing.Latency | None,
    accuracy: float | None,
) -> Measured:
    """What reports say of one model; `cost` (4,) is in the order of `groups.cost.METRICS`."""
    macs, params, size, _ = cost.tolist()
    return Measured(macs, params, int(size), len(model.graph.node), latency, accuracy)
