"""Make a model sparse on calibration data: how much goes of each layer, what, all else refitted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.samples import Calibration, calibration, further_samples
from onnxprune.compensation.distillation.distill import Student, distill
from onnxprune.compensation.distillation.schedule import Cost, schedule_for
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.layers import Layer
from onnxprune.groups.reach import Reach, refitted_part
from onnxprune.ir import shared_tensors, zero_biases
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.patch import patch
from onnxprune.ops.dequantize import zeros
from onnxprune.progress import between
from onnxprune.settings import CalibrationSettings
from onnxprune.sparsity.criteria import magnitudes, randoms, wanda
from onnxprune.sparsity.layer_fit import Wanted
from onnxprune.sparsity.options import Sparsity
from onnxprune.sparsity.patterns import Blocks, NofM
from onnxprune.sparsity.reconstruct import Goal, Reconstructed, reconstruct
from onnxprune.sparsity.select import Scored, masks_of, shares_of
from onnxprune.sparsity.shares import Competing, Shares, measured_shares
from onnxprune.sparsity.units_weights import layers_by_weight
from onnxprune.sparsity.weights import Weight, excluded, weights_of
from onnxprune.types import Read

__all__ = ["Made", "calibrated"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Made:
    """A sparse model and what the report says about it."""

    model: ModelProto
    notes: tuple[str, ...]
    reach: Reach | None = None


@dataclass(frozen=True)
class Task:
    """One model, and what is to become sparse.

    Attributes:
        analysis: the model, every layer with a bias to take the mean.
        what: how much goes, and how it is chosen.
        options: the user's settings.
        weights: those that become sparse.
        layers: by the name of their weight those layers that least squares can refit.
        fixed: names of weights that the user leaves alone.
    """

    analysis: Analysis
    what: Sparsity
    options: CalibrationSettings
    weights: tuple[Weight, ...]
    layers: Mapping[str, Layer]
    fixed: frozenset[str]

    @property
    def by_error(self) -> bool:
        """Whether masks follow from what each number's removal costs."""
        form = self.what.form
        single = form is None or isinstance(form, NofM)
        return self.what.criterion in ("auto", "obs") and single and self.what.threshold is None


def calibrated(
    model: ModelProto, names: Sequence[str], what: Sparsity, options: CalibrationSettings
) -> Made:
    """Make the weights `names` sparse, and refit every layer that is not excluded.

    Args:
        model: the original.
        names: of the weights that become sparse.
        what: how much goes, and how it is chosen.
        options: the user's settings, with calibration data.
    """
    options.progress("measuring", 0.05)
    task = _task(model, names, what, options)
    data = calibration(options.calib, model, options, task.analysis.nodes)
    macs = float(task.analysis.cost.full[0])
    more = further_samples(options, model, task.analysis.nodes)
    fit, schedule = schedule_for(options.distill, data, Cost(macs, macs), more=more)
    shares = _shares(task, data)
    result = _without_layers(task, shares, data)
    for step in range(1, options.steps + 1):
        part = 1 - (1 - step / options.steps) ** 3
        goal = Goal(_wanted(task, shares, part, data, result), task.fixed)
        result = reconstruct(task.analysis, fit, goal, result, _progress(options, step))
    sparse = patch(task.analysis.model, result.patches)
    layers = refitted_part(task.analysis, result.refitted, result.failed)
    failed = [
        f"layer '{name}' keeps its weights: {why}"
        for name, why in layers.left.items()
        if why in result.failed.values()
    ]
    notes = (f"calibrated on {data.samples} samples: {data.source}", *shares.notes, *failed)
    reach = Reach(layers)
    if schedule is None:
        return Made(_as_before(sparse, task.analysis), notes, reach)
    tuned = distill(
        task.analysis,
        Student(analyze(sparse, options), masks=_moving(task, result)),
        schedule,
        between(options.progress, "distilling", 0.6, 0.8),
    )
    if tuned is not None:
        sparse = patch(sparse, tuned.patches)
        notes += (tuned.note,)
        reach = replace(reach, parameters=tuned.reached)
    else:
        notes += (schedule.hindrance,)
    return Made(_as_before(sparse, task.analysis), notes, reach)


def _as_before(model: ModelProto, analysis: Analysis) -> ModelProto:
    """Take back what the analysis added and nobody needed; the model is changed in place."""
    return shared_tensors.reunite(zero_biases.unbiased(model), analysis.copies)


def _task(
    model: ModelProto, names: Sequence[str], what: Sparsity, options: CalibrationSettings
) -> Task:
    """Look at the model, and at which of its layers can be refitted."""
    analysis = analyze(zero_biases.biased(model, ops.LAYERS), options)
    every = weights_of(analysis.nodes, analysis.stored)
    layers = layers_by_weight(analysis)
    weights = tuple(weight for weight in every if weight.name in set(names))
    fixed = frozenset(excluded(every, options.exclude))
    return Task(analysis, what, options, weights, layers, fixed)


def _shares(task: Task, data: Calibration) -> Shares:
    """The share of each weight that goes, where it is known before any mask."""
    if not task.by_error or task.what.form is not None:
        return Shares({})
    asked = shares_of(task.weights, task.what)
    known = {name: share for name, share in asked.items() if share is not None}
    rest = [weight for weight in task.weights if weight.name not in known]
    if not rest:
        return Shares(known)
    competing = Competing(rest, task.layers, task.what.sparsity or 0.0)
    report = task.options.progress
    found = measured_shares(
        task.analysis,
        competing,
        data,
        task.options,
        lambda share: report("measuring", 0.05 + 0.25 * share),
    )
    return Shares({**known, **found.of}, found.notes)


def _progress(options: CalibrationSettings, step: int) -> Callable[[float], None]:
    """Shares of one walk as shares of all."""
    steps, report = options.steps, options.progress
    return lambda share: report("refitting", 0.3 + 0.3 * (step - 1 + share) / steps)


def _without_layers(task: Task, shares: Shares, data: Calibration) -> Reconstructed:
    """Make those weights sparse at once, by their scores, that no least squares reaches."""
    rest = [weight for weight in task.weights if weight.name not in task.layers]
    read = task.analysis.read
    zero = zeros(task.analysis.nodes, read)
    patches, masks = dict[str, Array](), dict[str, Mask]()
    for weight, mask in _masks(task, rest, _asked(task, rest, shares, 1.0), data, read):
        old = read(weight.name)
        assert old is not None
        nothing = zero(weight.name)
        plain = np.zeros((), old.dtype) if nothing is None else nothing.astype(old.dtype)
        kept = weight.unlaid(mask)
        patches[weight.name] = np.where(kept, old, plain)
        masks[weight.name] = kept
    return Reconstructed(patches, masks)


def _wanted(
    task: Task, shares: Shares, part: float, data: Calibration, now: Reconstructed
) -> dict[str, Wanted]:
    """What goes of every layer, when a part of what goes in the end goes now."""
    weights = [weight for weight in task.weights if weight.name in task.layers]
    form = task.what.form
    if not task.by_error:
        asked = _asked(task, weights, shares, part)
        masks = _masks(task, weights, asked, data, now.reader(task.analysis.read))
        return {
            weight.name: Wanted(int((~mask).sum()), mask=_matrix(task, weight, mask))
            for weight, mask in masks
        }
    if isinstance(form, NofM):
        return {w.name: Wanted(round(form.sparsity * w.size), form) for w in weights}
    return {w.name: Wanted(round(part * shares.of[w.name] * w.size)) for w in weights}


def _asked(task: Task, weights: Sequence[Weight], shares: Shares, part: float) -> Sparsity:
    """What is asked of some weights by score, when a part of what goes in the end goes now."""
    what = task.what
    if shares.of:
        own = {f"^{re.escape(weight.name)}$": shares.of[weight.name] for weight in weights}
        what = replace(what, layer_sparsity=own, sparsity=None)
    if what.sparsity is not None:
        what = replace(what, sparsity=what.sparsity * part)
    if what.layer_sparsity:
        parts = {pattern: share * part for pattern, share in what.layer_sparsity.items()}
        what = replace(what, layer_sparsity=parts)
    return what


def _masks(
    task: Task, weights: Sequence[Weight], asked: Sparsity, data: Calibration, read: Read
) -> Iterable[tuple[Weight, Mask]]:
    """Masks of some weights by score; `read` gives weights as they are now."""
    if not weights:
        return []
    analysis = task.analysis
    if asked.criterion == "random":
        return masks_of(weights, asked, Scored(randoms(task.options.seed)))
    if asked.criterion == "wanda" or isinstance(asked.form, Blocks):
        scores = wanda(replace(analysis, read=read), weights, data.batches, data.place.device)
        return masks_of(weights, asked, Scored(scores, by_row=True))
    return masks_of(weights, asked, Scored(magnitudes(analysis.nodes, read)))


def _matrix(task: Task, weight: Weight, mask: Mask) -> Mask:
    """A mask as its layer's matrix has it."""
    laid = weight.unlaid(mask).astype(np.float32)
    return np.asarray(task.layers[weight.name].matrix(laid) != 0)


def _moving(task: Task, result: Reconstructed) -> dict[str, Mask]:
    """Where weights may move: what is excluded stays as it is."""
    shapes = task.analysis.stored
    return {**result.masks, **{name: np.zeros(shapes[name], bool) for name in task.fixed}}
