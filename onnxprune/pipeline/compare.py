"""Before and after: drift of the outputs, latency side by side, accuracy where labels are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import external_data, graph, runtime, timing
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.pipeline.fidelity import fidelity
from onnxprune.report.values import Fidelity, Measured
from onnxprune.settings import DeviceSettings, Progress
from onnxprune.surgery.cut import Stage
from onnxprune.surgery.proof import Outputs, ProofRun

__all__ = ["Comparison", "compare_models", "measured", "milliseconds"]

Run: TypeAlias = Callable[[feeding.Feeds], Outputs]
#: Models with more bytes of weights are not timed on the way: each session would hold a copy.
TIMED = 2**30
_NOT_TIMED = (
    "latency was not measured: two sessions would hold all weights. `onnxprune check` on the two "
    "files measures it"
)


@dataclass(frozen=True)
class Comparison:
    """Drift, and latency of original and pruned model if it was asked for."""

    drift: Fidelity
    latency: tuple[timing.Latency, timing.Latency] | None
    notes: Sequence[str] = ()


def compare_models(
    models: tuple[ModelProto, ModelProto],
    stage: Stage | feeding.Feeds,
    data: feeding.Data | None,
    options: DeviceSettings,
    files: Sequence[Source] = (),
) -> Comparison:
    """Run original and pruned model on the user's data, or take the outputs on seeded inputs.

    `stage` holds outputs that are already known, or just the inputs to run. Models above `TIMED`
    bytes are timed only where both are `files`, which onnxruntime opens itself.
    """
    known = stage if isinstance(stage, Stage) else None
    inputs = stage.inputs if isinstance(stage, Stage) else stage
    large = max(map(graph.stored_bytes, models)) > TIMED
    names = [str(file) for file in files if isinstance(file, (str, os.PathLike))]
    timed = options.latency and (not large or len(names) == 2)
    notes = [_NOT_TIMED] if options.latency and not timed else []
    if data is None and known is not None and not timed:
        drift = fidelity([(known.original, known.pruned, None)], "seeded inputs")
        return Comparison(drift, None, notes)
    if large and not timed:
        runs: list[Run] = [ProofRun(model).run for model in models]
        return Comparison(_drift(runs, inputs, data, models[0], options), None, notes)
    opened = (
        names if large else (graph.model_bytes(external_data.inlined(model)) for model in models)
    )
    sessions = [runtime.open_session(model, options.device) for model in opened]
    if data is None and known is not None:
        drift = fidelity([(known.original, known.pruned, None)], "seeded inputs")
    else:
        runs = [partial(runtime.run, session) for session in sessions]
        drift = _drift(runs, inputs, data, models[0], options)
    if not timed:
        return Comparison(drift, None, notes)
    feeds = feeding.batched(models[0], inputs, options.batch)
    first, second = timing.paired_latency(
        sessions, feeds, progress=lambda share: options.progress("timing", 0.8 + 0.2 * share)
    )
    return Comparison(drift, (first, second))


def _drift(
    runs: Sequence[Run],
    inputs: feeding.Feeds,
    data: feeding.Data | None,
    model: ModelProto,
    options: DeviceSettings,
) -> Fidelity:
    if data is not None:
        return fidelity(_pairs(runs, data, model, options.progress), "the given data")
    return fidelity([(runs[0](inputs), runs[1](inputs), None)], "seeded inputs")


def milliseconds(analysis: Analysis, options: DeviceSettings) -> float:
    """The original's median latency."""
    inputs = feeding.seeded(
        analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, options.seed
    )
    content = graph.model_bytes(external_data.inlined(analysis.original))
    session = runtime.open_session(content, options.device)
    feeds = feeding.batched(analysis.model, inputs, options.batch)
    return timing.paired_latency([session], feeds)[0].median_ms


def _pairs(
    runs: Sequence[Run], data: feeding.Data, model: ModelProto, progress: Progress
) -> Iterator[tuple[Outputs, Outputs, NDArray[np.int64] | None]]:
    done = 0
    for inputs, labels in feeding.batches(data, model):
        yield runs[0](inputs), runs[1](inputs), labels
        done += len(next(iter(inputs.values())))
        progress("comparing", 0.6 + 0.2 * done / len(data))


def measured(
    cost: NDArray[np.float64],
    model: ModelProto,
    latency: timing.Latency | None,
    accuracy: float | None,
) -> Measured:
    """One column of the table; `cost` (4,) is in the order of `onnxprune.groups.cost.METRICS`."""
    macs, params, size, _ = cost.tolist()
    return Measured(macs, params, int(size), len(model.graph.node), latency, accuracy)
