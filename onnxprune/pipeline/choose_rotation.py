"""Turn residual streams to principal directions where less is lost by cutting them then.

Both models are measured, cut to the same budgets and refitted on the same samples; the one whose
outputs diverge less from the original's on samples held back is pruned in earnest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
from onnxprune.pipeline.prune_calibrated import Measured, measured_groups, refitted, widths_of
from onnxprune.settings import Settings
from onnxprune.surgery.cut import Stage
from onnxprune.surgery.rotation import folded, rotated
from onnxprune.types import Ints

__all__ = ["Turned", "choose_rotation"]

#: One sample in so many is held back from refits, to judge by.
HELD = 4


class Turned(NamedTuple):
    """The stage that turned streams, None where they stay as they are, and what reports say."""

    stage: Stage | None = None
    notes: tuple[str, ...] = ()


class _Cut(NamedTuple):
    """A model that was measured, and widths within the budgets (n_groups,)."""

    measured: Measured
    widths: Ints

    def cuts(self, names: Collection[str]) -> bool:
        """Whether a group of these names loses channels."""
        groups = zip(self.measured.analysis.groups, self.widths.tolist(), strict=True)
        return any(group.name in names and width < group.channels for group, width in groups)


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
    if not hold_out(data, HELD)[1].samples:
        why = f"fewer than {HELD} samples leave none to judge by whether streams are to be turned"
        return Turned(notes=(*left, why))
    try:
        stage = _turned(analysis, streams, data, options)
    except ProofError as error:
        return Turned(notes=(*left, f"residual streams stay as they are: {one_line(error)}"))
    turned = _measured(analyze(stage.model, options, biases=True), wanted, data, options)
    if turned is None or not turned.cuts({stream.group.name for stream in streams}):
        return Turned(notes=left)
    better, what = _judged(turned, _measured(analysis, wanted, data, options), data, options)
    if not better:
        return Turned(notes=(*left, f"residual streams stay as they are; {what}"))
    return Turned(replace(stage, told=f"{stage.told}; {what}"), left)


def _turned(
    analysis: Analysis, streams: Sequence[Stream], data: Calibration, options: Settings
) -> Stage:
    """Turn streams to principal directions of what layers read of them."""
    flat = folded(analysis, streams)
    rotations = principal_rotations(flat, streams, data.batches, data.place.device)
    return rotated(analysis, rotations, options)


def _judged(
    turned: _Cut, plain: _Cut | None, data: Calibration, options: Settings
) -> tuple[bool, str]:
    """Whether a turned model diverges less once it is cut and refitted, and by how much."""
    fit, held = hold_out(data, HELD)
    before = np.inf if plain is None else _divergence(plain, fit, held, options)
    after = _divergence(turned, fit, held, options)
    return after < before, (
        f"divergence on {held.samples} samples held back: {after:.3g} with streams turned to "
        f"principal directions, {before:.3g} as they are"
    )


def _left(found: Sequence[tuple[str, Stream | str | None]]) -> tuple[str, ...]:
    """What reports say about streams that cannot be turned: the first one, and how many."""
    reasons = [(name, why) for name, why in found if isinstance(why, str)]
    if not reasons:
        return ()
    (name, why), more = reasons[0], len(reasons) - 1
    also = f", nor can {more} others" if more else ""
    return (f"residual stream '{name}' cannot be turned to principal directions: {why}{also}",)


def _measured(
    analysis: Analysis, wanted: Mapping[str, float], data: Calibration, options: Settings
) -> _Cut | None:
    """Sensitivities of a model on all samples, which the cache then knows; None out of reach."""
    quiet = replace(options, progress=lambda stage, share: None)
    measured = measured_groups(analysis, data, quiet)
    try:
        return _Cut(measured, widths_of(measured, _counted(analysis, wanted), quiet))
    except TargetError:
        return None


def _divergence(cut: _Cut, fit: Calibration, held: Calibration, options: Settings) -> float:
    """How far the outputs diverge on samples held back once the model is cut and refitted."""
    quiet = replace(options, progress=lambda stage, share: None)
    analysis = cut.measured.analysis
    stage, _ = refitted(cut.measured, cut.widths, own_teacher(analysis, fit), quiet)
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
