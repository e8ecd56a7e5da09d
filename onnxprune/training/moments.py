"""Measure what layers read before the first step, which scales their steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.segment import open_model
from onnxprune.compensation.distillation.optimizer import preconditioner
from onnxprune.groups.analysis import Analysis
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.runtime import Device
from onnxprune.training.parameters import LayerParameter, Parameter
from onnxprune.training.samples import Batch

__all__ = ["SCALED_ON", "with_scales"]

#: Samples that moments are measured on.
SCALED_ON = 256
Array = NDArray[Any]


def with_scales(
    analysis: Analysis,
    bare: ModelProto,
    parameters: Sequence[Parameter],
    batches: Sequence[Batch],
    device: Device | None,
) -> list[Parameter]:
    """Give every layer the moments of its inputs.

    Args:
        analysis: the model.
        bare: the same without large weights.
        parameters: those of layers, and others, which stay.
        batches: samples to measure on.
        device: what runs the model, None: the processor.
    """
    layers = [p.tuned.layer for p in parameters if isinstance(p, LayerParameter)]
    if not layers:
        return list(parameters)
    wanted = {t for one in layers for t in (one.data.name, one.node.outputs[0].name)}
    first = batches[0].feeds
    segment = open_model(bare, sorted(wanted - first.keys()), first, analysis.read, device)
    rng = np.random.default_rng(0)
    rows: list[list[Array]] = [[] for _ in layers]
    for batch in batches:
        values = {**batch.feeds, **segment.run(batch.feeds)}
        for layer, own in zip(layers, rows, strict=True):
            shape = values[layer.node.outputs[0].name].shape
            weight = analysis.stored[layer.weight.name]
            own.append(
                layer.inputs(values[layer.data.name], shape, layer.places(shape, rng), weight)
            )
    scales = []
    for layer in layers:  # rows of one layer after the other are released
        scales.append(preconditioner(np.concatenate(rows.pop(0)), layer.depthwise))
    ready = iter(scales)
    return [
        replace(p, scale=next(ready)) if isinstance(p, LayerParameter) else p for p in parameters
    ]
