"""Compare what single layers give in two models: how far they drifted, from input to output.

A layer's divergence is the energy of the difference in shares of the energy of what the original
gives, both at the channels that stay: 0 where they are equal, 1 where the pruned layer is as far
off as zeros would be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.samples import Calibration
from onnxprune.ir import external_data, graph, runtime, skeleton
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.pipeline.saturation import Samples
from onnxprune.report.values import LayerDivergence, LayerDivergences
from onnxprune.types import Ints, Node, Plan

__all__ = ["Layers", "divergences", "few_samples", "layers_of"]

#: Samples that layers are compared on.
FEW = 16


@dataclass(frozen=True)
class Layers:
    """What to compare: outputs of layers by the layer's name, on a few samples."""

    outputs: Mapping[str, str]
    samples: Samples | None = None

    def without(self, names: Collection[str]) -> Layers:
        """Leave out layers whose outputs are named."""
        left = {key: name for key, name in self.outputs.items() if name not in names}
        return replace(self, outputs=left)


def layers_of(nodes: Sequence[Node], samples: Samples | None) -> Layers:
    """The layers of a model, as far as they have one weight or more, in the order of the graph."""
    named = {node.name: node.outputs[0].name for node in nodes if ops.kernels_of(node)}
    return Layers(named, samples)


def few_samples(model: ModelProto, data: feeding.Data | None, calib: object) -> Samples | None:
    """Take a few of the user's samples, those that results are measured on first.

    Args:
        model: whose inputs they are.
        data: what results are measured on.
        calib: calibration data, or what is none that was read.
    """
    sizes = [graph.declared_sizes(value) for value in graph.graph_inputs(model)]
    whole = any(size and size[0] is not None for size in sizes)
    if data is not None:
        found = next(feeding.batches(data, model), None)
        return None if found is None else _cut(found[0], whole, "the given data")
    if isinstance(calib, Calibration):
        return _cut(calib.batches[0], whole or calib.whole, "calibration samples")
    return None


def _cut(feeds: feeding.Feeds, whole: bool, name: str) -> Samples:
    """The first few samples, all of a batch that cannot be divided."""
    return Samples(dict(feeds if whole else feeding.rows(feeds, slice(0, FEW))), name)


def divergences(
    original: ModelProto, pruned: ModelProto, plan: Plan, layers: Layers
) -> LayerDivergences | None:
    """Run both models on a few samples and compare what each layer gives.

    A layer whose output the pruned model does not have, or has in another shape, is left out.

    Args:
        original: the first model.
        pruned: what became of it.
        plan: the positions that stay.
        layers: what to compare.

    Returns:
        None where there are no samples, or a model is too large to be opened with all its weights.
    """
    large = max(map(graph.stored_bytes, (original, pruned))) > graph.LARGE
    if layers.samples is None or large:
        return None
    there = {name for node in pruned.graph.node for name in node.output}
    own = {name for node in original.graph.node for name in node.output}
    named = {key: name for key, name in layers.outputs.items() if name in there & own}
    kept: dict[str, dict[int, Ints]] = {}
    for axis, at in plan.keep.items():
        kept.setdefault(axis.tensor, {})[axis.axis] = at
    opened = [partial(_run, _session(model, named.values())) for model in (original, pruned)]
    errors, energies = dict.fromkeys(named, 0.0), dict.fromkeys(named, 0.0)
    pieces = _pieces(layers.samples.feeds, original)
    for piece in pieces:
        before, after = (run(piece) for run in opened)
        for key, name in named.items():
            pair = _aligned(before[name], after[name], kept.get(name, {}))
            if pair is not None:
                errors[key] += float(np.square(pair[1] - pair[0]).sum())
                energies[key] += float(np.square(pair[0]).sum())
    rows = [
        LayerDivergence(key, name, errors[key] / energies[key])
        for key, name in named.items()
        if energies[key] > 0 and np.isfinite(errors[key])
    ]
    count = sum(map(feeding.count, pieces))
    return LayerDivergences(layers.samples.name, count, tuple(rows)) if rows else None


def _session(model: ModelProto, names: Any) -> runtime.Session:
    """A model that also gives what lies between its layers."""
    return runtime.open_session(skeleton.with_outputs(external_data.inlined(model), names))


def _run(session: runtime.Session, feeds: feeding.Feeds) -> dict[str, NDArray[Any]]:
    return runtime.run(session, feeds)


def _pieces(feeds: feeding.Feeds, model: ModelProto) -> list[feeding.Feeds]:
    """Samples one by one, where the model takes them so: all layers' outputs are held at once."""
    varies = [graph.declared_sizes(value)[:1] == (None,) for value in graph.graph_inputs(model)]
    if not all(varies):
        return [feeds]
    return [feeding.rows(feeds, slice(k, k + 1)) for k in range(feeding.count(feeds))]


def _aligned(
    before: NDArray[Any], after: NDArray[Any], kept: Mapping[int, Ints]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Both outputs at the positions that stay; None where they cannot be compared."""
    if before.dtype.kind != "f" or before.ndim != after.ndim:
        return None
    for axis, at in kept.items():
        if at.size and at.max() >= before.shape[axis]:
            return None  # channels of zeros were added
        before = np.take(before, at, axis)
    if before.shape != after.shape:
        return None
    return before.astype(np.float64), after.astype(np.float64)
