"""Single weights set to zero: choose, make up for them, measure. Start reading at `sparsify`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import load
from onnxprune.ir import edit, graph, inputs, normalize, runtime, shape_inference, timing
from onnxprune.ir import external_data as external
from onnxprune.ir import save as saving
from onnxprune.ir import tensors as tensors_module
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.sparse_initializers import stored_sparse
from onnxprune.ops.dequantize import zeros
from onnxprune.pipeline import compare, score_search
from onnxprune.pipeline.fidelity import fidelity
from onnxprune.report.sparsity import SPEED, SparseReport
from onnxprune.report.values import Fidelity
from onnxprune.settings import DeviceSettings, Settings, SettingsChanges, settings_of
from onnxprune.sparsity.calibrated import calibrated
from onnxprune.sparsity.criteria import scored_by
from onnxprune.sparsity.density import densities, packed_sizes
from onnxprune.sparsity.options import FIELDS, Sparsity, checked
from onnxprune.sparsity.select import Scored, fitting, masks_of
from onnxprune.sparsity.weights import Chosen, Weight, select_weights, weights_of
from onnxprune.surgery.proof import ProofRun
from onnxprune.types import Node

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Sparsified", "SparsifyChanges", "sparsify"]

Array = NDArray[Any]


class SparsifyChanges(SettingsChanges, total=False):
    """The fields of `Sparsity` and `Settings` as keywords; `scope` is that of `Sparsity`."""

    sparsity: float | None
    layer_sparsity: Mapping[str, float] | None
    threshold: float | None
    pattern: str | None
    criterion: str
    ops: Sequence[str]
    include: Sequence[str]
    misfit: str
    storage: str


@dataclass(frozen=True)
class Sparsified:
    """A sparse model and what was measured; `stored` has external weights still outside."""

    stored: ModelProto
    report: SparseReport
    scratch: external.Scratch | None = None

    @cached_property
    def model(self) -> ModelProto:
        """The model with all weights in memory."""
        return external.inlined(self.stored)

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model, see `onnxprune.ir.save.save`."""
        return saving.save(self.stored, Path(path), external_data)


def sparsify(
    model: Source,
    what: Sparsity | float | None = None,
    settings: Settings | None = None,
    **changes: Unpack[SparsifyChanges],
) -> Sparsified:
    """Set single weights to zero: `sparsify("in.onnx", 0.7)`, `sparsify(m, pattern="2:4")`.

    Args:
        model: path or ModelProto; it is not changed.
        what: the share of all numbers that goes, or everything about it.
        settings: how; with `calib` what stays is refitted to the original's outputs.
        **changes: single fields of `what` and `settings` to override.

    Raises:
        InputError: the model or an option cannot be used, or a pattern does not fit.
        ProofError: a weight that should be as it was is not.
    """
    wanted, options = _settled(what, settings, changes)
    options.progress("reading", 0.0)
    proto = load(model)
    scratch = external.Scratch(options.scratch) if external.is_external(proto) else None
    options = replace(options, scratch=None if scratch is None else scratch.path)
    data = None if options.data is None else inputs.load_data(options.data, proto)
    score = None if options.evaluate is None else score_search.scorer(options.evaluate)
    before = None if score is None else float(score(_session(proto, options)))
    job = _Job(proto, not isinstance(model, ModelProto), wanted, options)
    report = job.report(data)
    if score is not None:
        found = {"function": score.name, "before": before}
        found["after"] = float(score(_session(job.model, options)))
        report = replace(report, evaluation=found)
    options.progress("done", 1.0)
    return Sparsified(job.model, report, scratch)


def _settled(
    what: Sparsity | float | None, settings: Settings | None, changes: Mapping[str, Any]
) -> tuple[Sparsity, Settings]:
    """Both kinds of options, checked."""
    wanted = what if isinstance(what, Sparsity) else Sparsity(sparsity=what)
    wanted = replace(wanted, **{k: v for k, v in changes.items() if k in FIELDS})
    others = {k: v for k, v in changes.items() if k not in FIELDS}
    if unknown := others.keys() - SettingsChanges.__annotations__.keys():
        raise InputError(
            f"unknown setting '{min(unknown)}'. There are: {', '.join(FIELDS)}, "
            "and the settings of prune"
        )
    options = settings_of(settings, others)
    return checked(wanted, options.calib is not None), options


def _asked(what: Sparsity) -> dict[str, Any]:
    """What differs from doing nothing in particular."""
    plain = asdict(Sparsity())
    return {k: v for k, v in asdict(what).items() if v != plain[k]}


def _session(model: ModelProto, options: DeviceSettings) -> Any:
    return runtime.open_session(graph.model_bytes(external.inlined(model)), options.device)


def _sizes(model: ModelProto) -> Any:
    return packed_sizes(lambda: saving.pieces(model), saving.file_bytes(model))


class _Job:
    """One model on its way; a model above `graph.LARGE` bytes that is our own is changed in place.

    Attributes:
        rows: the weights that were taken, as they are now.
        before: sizes of the original.
    """

    def __init__(self, proto: ModelProto, own: bool, what: Sparsity, options: Settings) -> None:
        self.what, self.options = what, options
        self.model, self.notes = normalize.prepare(normalize.distinct(proto))
        self.large = graph.stored_bytes(self.model) > graph.LARGE
        self.original = self.model
        self.before = _sizes(proto)
        nodes = shape_inference.describe(self.model, ops.traits(), options.input_shapes)
        self.nodes: tuple[Node, ...] = nodes
        tensors = graph.constants(self.model)
        weights = weights_of(nodes, {k: tuple(t.dims) for k, t in tensors.items()})
        kinds = {w.name: edit.dtype(tensors[w.name]) for w in weights}
        picked = select_weights(weights, kinds, what.ops, what.include, options.exclude)
        fit, misfits = fitting(picked.weights, what)
        self.chosen = Chosen(fit, {**picked.skipped, **misfits})
        self.inputs = inputs.seeded(
            self.model,
            ops.index_bounds(nodes),
            shape_inference.sample_shapes(self.model, options.input_shapes),
            options.seed,
        )
        self.outputs = ProofRun(self.model).run(self.inputs)
        in_place = own and self.large
        if not in_place:
            self.model = ModelProto()
            self.model.CopyFrom(self.original)
        self.in_place = in_place

    def report(self, data: inputs.Data | None) -> SparseReport:
        """Make the model sparse and say what that did."""
        updated = self._run()
        self.options.progress("comparing", 0.8)
        drift, latency = self._compared(self.model, data)
        self.notes.append(SPEED)
        if self.what.storage == "sparse":
            names = {weight.name for weight in self.chosen.weights}
            self.model, told = stored_sparse(self.model, names)
            self.notes.append(told)
        return SparseReport(
            _asked(self.what),
            self.rows,
            self.chosen.skipped,
            (self.before, _sizes(self.model)),
            drift,
            latency,
            updated,
            self.options.environment(),
            self.notes,
        )

    def _run(self) -> bool:
        """Whether weights that stay were moved."""
        options, what = self.options, self.what
        moves = options.calib is not None and options.compensate
        if moves:
            made = calibrated(self.original, [w.name for w in self.chosen.weights], what, options)
            self.notes += made.notes
            self.model = made.model
        else:
            scored = scored_by(self.original, self.nodes, what, options)
            self._write(scored)
        read = graph.reader(self.model)
        self.rows = densities(self.chosen.weights, read, zeros(self.nodes, read))
        return moves

    def _write(self, scored: Scored) -> None:
        """Zeros in place, a tensor at a time; each is read again and compared."""
        read = graph.reader(self.model)
        zero = zeros(self.nodes, read)
        tensors = graph.constants(self.model)
        weights = self.chosen.weights
        with external.spill(self.options.folder) as put:
            for k, (weight, mask) in enumerate(masks_of(weights, self.what, scored)):
                old = tensors_module.array(tensors[weight.name])
                kept = weight.unlaid(mask)
                nothing = zero(weight.name)
                plain = np.zeros((), old.dtype) if nothing is None else nothing.astype(old.dtype)
                new = np.where(kept, old, plain)
                edit.overwrite(tensors[weight.name], new, put)
                _prove(weight, (old, tensors_module.array(tensors[weight.name])), kept, plain)
                self.options.progress("sparsifying", 0.3 + 0.5 * (k + 1) / len(weights))

    def _compared(
        self, new: ModelProto, data: inputs.Data | None
    ) -> tuple[Fidelity, tuple[timing.Latency, timing.Latency] | None]:
        """How far outputs moved, and latency where both models are at hand."""
        if self.in_place:
            self.notes.append("the model is large: compared on seeded inputs alone")
            after = ProofRun(new).run(self.inputs)
            return fidelity([(self.outputs, after, None)], "seeded inputs"), None
        made = compare.compare_models((self.original, new), self.inputs, data, self.options)
        self.notes += made.notes
        return made.drift, made.latency


def _prove(weight: Weight, sides: tuple[Array, Array], kept: Array, zero: Array) -> None:
    """What was written is the old weight where it stays, and zero elsewhere."""
    old, new = sides
    same = (_bits(new) == _bits(old)) | ~kept
    if not same.all() or not ((new == zero) | kept).all():
        raise ProofError(f"'{weight.name}' was not written as it should be: please report it")


def _bits(array: Array) -> Array:
    """The same numbers as integers, so that NaN and minus zero compare as they are stored."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
