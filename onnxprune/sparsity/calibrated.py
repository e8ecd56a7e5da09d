"""Sparsity on calibration data: how much goes of each layer, what, and all that stays refitted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.samples import calibration
from onnxprune.compensation.distillation.distill import Student, distill
from onnxprune.compensation.distillation.schedule import Cost, schedule_for
from onnxprune.groups.analysis import analyze
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.ir import zero_biases
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.patch import patch
from onnxprune.ops.dequantize import zeros
from onnxprune.settings import CalibrationSettings
from onnxprune.sparsity.criteria import magnitudes, randoms, wanda
from onnxprune.sparsity.layer_fit import Wanted
from onnxprune.sparsity.options import Sparsity
from onnxprune.sparsity.patterns import Blocks, NofM
from onnxprune.sparsity.reconstruct import Reconstructed, reconstruct
from onnxprune.sparsity.select import Scored, masks_of, shares_of
from onnxprune.sparsity.sensitivity import allotted
from onnxprune.sparsity.weights import Weight, excluded, weights_of

__all__ = ["Made", "calibrated"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Made:
    """A sparse model and what the report says about it."""

    model: ModelProto
    notes: tuple[str, ...]


def calibrated(
    model: ModelProto, names: Sequence[str], what: Sparsity, options: CalibrationSettings
) -> Made:
    """Make the weights `names` sparse and refit every layer that is not excluded."""
    options.progress("measuring", 0.05)
    job = _Job(model, names, what, options)
    result = Reconstructed()
    job.direct(result)
    for step in range(1, options.steps + 1):
        share = 1 - (1 - step / options.steps) ** 3
        wanted = job.wanted(share, result)
        reconstruct(result, (job.analysis, job.fit), wanted, job.fixed, job.progress(step))
    return job.finished(result)


class _Job:
    """One model and what is asked of it."""

    def __init__(
        self, model: ModelProto, names: Sequence[str], what: Sparsity, options: CalibrationSettings
    ) -> None:
        self.what, self.options = what, options
        self.analysis = analyze(zero_biases.biased(model, ops.LAYERS), options)
        self.data = calibration(options.calib, model, options, self.analysis.nodes)
        macs = float(self.analysis.cost.full[0])
        self.fit, self.schedule = schedule_for(options.distill, self.data, Cost(macs, macs))
        every = weights_of(self.analysis.nodes, self.analysis.stored)
        self.weights = [weight for weight in every if weight.name in set(names)]
        self.fixed = excluded(every, options.exclude)
        self.layers = {la.weight.name: la for la in self._layers()}
        self.notes: tuple[str, ...] = (
            f"calibrated on {self.data.samples} samples: {self.data.source}",
        )
        self.shares = self._shares()

    def _layers(self) -> list[Layer]:
        """Layers that least squares can refit, a bias among them to take the mean."""
        readers = self.analysis.index.readers
        return [
            layer
            for layer in self.analysis.layers
            if not layer.depthwise and bias_of(layer, readers, self.analysis.read)[0]
        ]

    @property
    def by_error(self) -> bool:
        """Whether masks follow from what each number's removal costs."""
        form = self.what.form
        single = form is None or isinstance(form, NofM)
        return self.what.criterion in ("auto", "obs") and single and self.what.threshold is None

    def _shares(self) -> Mapping[str, float]:
        """The share of each weight that goes, where it is known before any mask."""
        if not self.by_error or self.what.form is not None:
            return {}
        shares = shares_of(self.weights, self.what)
        known = {name: share for name, share in shares.items() if share is not None}
        compete = [weight for weight in self.weights if weight.name not in known]
        if not compete:
            return known
        analysis, told = allotted(
            self.analysis,
            compete,
            self.layers,
            self.what.sparsity or 0.0,
            (self.data, self.options),
        )
        self.notes += told
        return {**known, **analysis}

    def progress(self, step: int) -> Any:
        """Shares of one walk as shares of all."""
        steps, report = self.options.steps, self.options.progress
        return lambda share: report("refitting", 0.3 + 0.3 * (step - 1 + share) / steps)

    def direct(self, result: Reconstructed) -> None:
        """Weights that no least squares reaches go by their scores at once."""
        rest = [weight for weight in self.weights if weight.name not in self.layers]
        zero = zeros(self.analysis.nodes, self.analysis.read)
        for weight, mask in self._masks(rest, 1.0, result):
            old = self.analysis.read(weight.name)
            assert old is not None
            nothing = zero(weight.name)
            plain = np.zeros((), old.dtype) if nothing is None else nothing.astype(old.dtype)
            kept = weight.unlaid(mask)
            result.patches[weight.name] = np.where(kept, old, plain)
            result.masks[weight.name] = kept

    def _masks(self, weights: Sequence[Weight], share: float, result: Reconstructed) -> Any:
        """Masks by score; a `share` of what goes in the end goes now."""
        if not weights:
            return []
        what, analysis = self.what, self.analysis
        if self.shares:
            own = {f"^{re.escape(w.name)}$": self.shares[w.name] for w in weights}
            what = replace(what, layer_sparsity=own, sparsity=None)
        if what.sparsity is not None:
            what = replace(what, sparsity=what.sparsity * share)
        if what.layer_sparsity:
            parts = {k: v * share for k, v in what.layer_sparsity.items()}
            what = replace(what, layer_sparsity=parts)

        def read(name: str) -> Array | None:
            patch = result.patches.get(name)
            return analysis.read(name) if patch is None else patch

        if what.criterion == "random":
            return masks_of(weights, what, Scored(randoms(self.options.seed)))
        if what.criterion == "wanda" or isinstance(what.form, Blocks):
            now = replace(analysis, read=read)
            return masks_of(weights, what, Scored(wanda(now, weights, self.data.batches), True))
        return masks_of(weights, what, Scored(magnitudes(analysis.nodes, read)))

    def wanted(self, share: float, result: Reconstructed) -> dict[str, Wanted]:
        """What goes of every layer."""
        weights = [weight for weight in self.weights if weight.name in self.layers]
        form = self.what.form
        if not self.by_error:
            return {
                weight.name: Wanted(int((~mask).sum()), mask=self._matrix(weight, mask))
                for weight, mask in self._masks(weights, share, result)
            }
        found = {}
        for weight in weights:
            part = form.sparsity if isinstance(form, NofM) else share * self.shares[weight.name]
            pattern = form if isinstance(form, NofM) else None
            found[weight.name] = Wanted(round(part * weight.size), pattern)
        return found

    def _matrix(self, weight: Weight, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        laid = weight.unlaid(mask).astype(np.float32)
        return np.asarray(self.layers[weight.name].matrix(laid) != 0)

    def _moving(self, result: Reconstructed) -> dict[str, NDArray[np.bool_]]:
        """Where weights may move: what is excluded stays as it is."""
        shapes = self.analysis.stored
        return {**result.masks, **{name: np.zeros(shapes[name], bool) for name in self.fixed}}

    def finished(self, result: Reconstructed) -> Made:
        """The model with new weights, tuned together where that is within reach."""
        model = patch(self.analysis.model, result.patches)
        notes = self.notes
        if self.schedule is not None:
            made = distill(
                self.analysis,
                Student(analyze(model, self.options), masks=self._moving(result)),
                self.schedule,
                lambda share: self.options.progress("distilling", 0.6 + 0.2 * share),
            )
            if made is not None:
                model = patch(model, made.patches)
                notes += (made.note,)
        return Made(zero_biases.unbiased(model), notes)
