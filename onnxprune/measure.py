"""Before and after: drift of the outputs, latency side by side, accuracy where labels are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import feeds as feeding
from onnxprune import graph, runtime
from onnxprune.cutting import Stage
from onnxprune.graph import ModelProto
from onnxprune.report import Measured
from onnxprune.settings import Progress, Settings
from onnxprune.validate import Fidelity, Outputs, fidelity

__all__ = ["Comparison", "batched", "compare_models", "environment", "measured"]


@dataclass(frozen=True)
class Comparison:
    """Drift, and latency of original and pruned model if it was asked for."""

    drift: Fidelity
    latency: tuple[runtime.Latency, runtime.Latency] | None


def compare_models(
    original: ModelProto,
    pruned: ModelProto,
    stage: Stage | feeding.Feeds,
    data: feeding.Data | None,
    options: Settings,
) -> Comparison:
    """Run both models on the user's data, or take the outputs on seeded inputs.

    `stage` holds outputs that are already known, or just the inputs to run.
    """
    known = stage if isinstance(stage, Stage) else None
    inputs = stage.inputs if isinstance(stage, Stage) else stage
    drift = None
    if data is None and known is not None:
        drift = fidelity([(known.original, known.pruned, None)], "seeded inputs")
        if not options.latency:
            return Comparison(drift, None)
    sessions = [
        runtime.open_session(graph.model_bytes(model), options.device)
        for model in (original, pruned)
    ]
    if data is not None:
        drift = fidelity(_pairs(sessions, data, original, options.progress), "the given data")
    elif drift is None:
        outputs = [runtime.run(session, inputs) for session in sessions]
        drift = fidelity([(outputs[0], outputs[1], None)], "seeded inputs")
    if not options.latency:
        return Comparison(drift, None)
    feeds = batched(original, inputs, options.batch)
    first, second = runtime.paired_latency(
        sessions, feeds, progress=lambda share: options.progress("timing", 0.8 + 0.2 * share)
    )
    return Comparison(drift, (first, second))


def batched(model: ModelProto, inputs: feeding.Feeds, batch: int) -> feeding.Feeds:
    """Inputs with `batch` samples, where the first axis may vary."""
    feeds = {}
    for value in graph.graph_inputs(model):
        dims, array = value.type.tensor_type.shape.dim, inputs[value.name]
        varies = len(dims) > 0 and not dims[0].dim_value
        feeds[value.name] = np.resize(array, (batch, *array.shape[1:])) if varies else array
    return feeds


def _pairs(
    sessions: list[Any], data: feeding.Data, model: ModelProto, progress: Progress
) -> Iterator[tuple[Outputs, Outputs, NDArray[np.int64] | None]]:
    done = 0
    for inputs, labels in feeding.batches(data, model):
        yield runtime.run(sessions[0], inputs), runtime.run(sessions[1], inputs), labels
        done += len(next(iter(inputs.values())))
        progress("comparing", 0.6 + 0.2 * done / len(data))


def environment(options: Settings) -> dict[str, Any]:
    """What was measured on: provider, threads, batch, onnxruntime's version, the processor."""
    return {
        "provider": options.device.resolve(),
        "threads": options.device.threads,
        "batch": options.batch,
        "onnxruntime": runtime.version(),
        "cpu": runtime.processor(),
    }


def measured(
    cost: NDArray[np.float64],
    model: ModelProto,
    latency: runtime.Latency | None,
    accuracy: float | None,
) -> Measured:
    """One column of the table; `cost` (4,) is in the order of `onnxprune.cost.METRICS`."""
    macs, params, size, _ = cost.tolist()
    return Measured(macs, params, int(size), len(model.graph.node), latency, accuracy)
