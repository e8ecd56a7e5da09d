"""Turn residual streams to principal directions where less is lost by cutting them then.

Both models are measured, cut to the same budgets and refitted on the same samples; the one whose
outputs diverge less from the original's on samples held back is pruned in earnest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnxprune.calibration.divergence import divergence
from onnxprune.calibration.principal import principal_rotations
from onnxprune.calibration.samples import Calibration, calibration, hold_out
from onnxprune.compensation.teacher import own_teacher
from onnxprune.errors import ProofError, TargetError, one_line
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.cost import METRICS
from onnxprune.groups.streams import find_stream
from onnxprune.groups.turning import Stream
from onnxprune.ir import graph, runtime
from onnxprune.ir.graph import ModelProto
from onnxprune.pipeline.prune_calibrated import measured_groups, refitted, widths_of
from onnxprune.settings import Settings
from onnxprune.surgery.cut import Stage
from onnxprune.surgery.rotation import folded, rotated

__all__ = ["Turned", "choose_rotation"]

#: One sample in so many is held back from refits, to judge by.
HELD = 4


class Turned(NamedTuple):
    """The stage that turned streams, None where they stay as they are, and what reports say."""

    stage: Stage | None = None
    notes: tuple[str, ...] = ()


class _Samples(NamedTuple):
    """All samples, those that layers are refitted on, and those that judge."""

    whole: Calibration
    fit: Calibration
    held: Calibration


def choose_rotation(analysis: Analysis, wanted: Mapping[str, float], options: Settings) -> Turned:
    """Decide whether streams are turned before they are cut, and turn them.

    Args:
        analysis: the model, with a bias in every layer.
        wanted: largest value per metric; for latency the share of what the model takes.
        options: how.
    """
    found = [(group.name, find_stream(analysis, group)) for group in analysis.groups]
    streams = [one for _, one in found if isinstance(one, Stream)]
    left = _left(found)
    if not streams:
        return Turned(notes=left)
    data = calibration(options.calib, analysis.original, options, analysis.nodes)
    fit, held = hold_out(data, HELD)
    if not held.samples:
        return Turned(
            notes=(
                *left,
                f"fewer than {HELD} samples leave none to judge rotations by",
            )
        )
    flat = folded(analysis, streams)
    rotations = principal_rotations(flat, streams, data.batches, data.place.device)
    if not rotations:
        return Turned(notes=left)
    try:
        stage = rotated(analysis, rotations, options)
    except ProofError as error:
        return Turned(
            notes=(
                *left,
                f"residual streams stay as they are: {one_line(error)}",
            )
        )
    other = analyze(stage.model, options, biases=True)
    parts = _Samples(data, fit, held)
    plain, turned = (_divergence(one, wanted, parts, options) for one in (analysis, other))
    what = (
        f"divergence on {held.samples} samples held back: {turned:.3g} with streams turned to "
        f"principal directions, {plain:.3g} as they are"
    )
    if not turned < plain:
        return Turned(
            notes=(
                *left,
                f"residual streams stay as they are; {what}",
            )
        )
    return Turned(replace(stage, told=f"{stage.told}; {what}"), left)


def _left(found: Sequence[tuple[str, Stream | str | None]]) -> tuple[str, ...]:
    """What reports say about streams that cannot be turned: the first one, and how many."""
    reasons = [(name, why) for name, why in found if isinstance(why, str)]
    if not reasons:
        return ()
    (name, why), more = reasons[0], len(reasons) - 1
    also = f", nor can {more} others" if more else ""
    return (f"residual stream '{name}' cannot be turned to principal directions: {why}{also}",)


def _divergence(
    analysis: Analysis,
    wanted: Mapping[str, float],
    parts: _Samples,
    options: Settings,
) -> float:
    """How far the outputs diverge once the model is cut and refitted; inf out of reach.

    Sensitivities are measured on all samples, as the result's are, which the cache then knows.
    """
    whole, fit, held = parts
    quiet = replace(options, progress=lambda stage, share: None)
    measured = measured_groups(analysis, whole, quiet)
    try:
        widths = widths_of(measured, _counted(analysis, wanted), quiet)
    except TargetError:
        return np.inf
    stage, _ = refitted(measured, widths, own_teacher(analysis, fit), quiet)
    before, after = (_outputs(model, held) for model in (analysis.original, stage.model))
    each = [divergence(a, b) * size for a, b, size in zip(before, after, held.sizes, strict=True)]
    return float(np.sum(each)) / held.samples


def _counted(analysis: Analysis, wanted: Mapping[str, float]) -> dict[str, float]:
    """Budgets in numbers that are counted: time is taken to go with multiplications."""
    budgets = {metric: limit for metric, limit in wanted.items() if metric != "latency"}
    if "latency" in wanted:
        limit = float(analysis.cost.full[METRICS.index("macs")]) * wanted["latency"]
        budgets["macs"] = min(limit, budgets.get("macs", np.inf))
    return budgets


def _outputs(model: ModelProto, data: Calibration) -> list[dict[str, np.ndarray]]:
    session = runtime.open_session(graph.model_bytes(model), data.place.device)
    return [dict(runtime.run(session, dict(feeds))) for feeds in data.batches]
