"""Set single weights to zero: select, compensate, measure. Start reading at `sparsify`."""

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
from onnxprune.ir import edit, graph, inputs, normalize, runtime, shape_inference, tensors
from onnxprune.ir import external_data as external
from onnxprune.ir import save as saving
from onnxprune.ir.blas import one_thread
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.sparse_initializers import stored_sparse
from onnxprune.ops.dequantize import zeros
from onnxprune.pipeline import compare, score_search
from onnxprune.pipeline.fidelity import OutputPair, fidelity
from onnxprune.pipeline.sample_run import sized_by_samples, sized_by_trying, with_samples
from onnxprune.report.sparsity import SPEED, SparseReport
from onnxprune.settings import (
    CalibrationSettings,
    DeviceSettings,
    Settings,
    SettingsChanges,
    settings_of,
)
from onnxprune.sparsity.calibrated import Made, calibrated
from onnxprune.sparsity.criteria import scored_by
from onnxprune.sparsity.density import Sizes, densities, packed_sizes
from onnxprune.sparsity.options import FIELDS, Sparsity, checked
from onnxprune.sparsity.select import fitting, masks_of
from onnxprune.sparsity.weights import Chosen, select_weights, weights_of
from onnxprune.surgery.proof import Outputs, ProofRun
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
    """A sparse model and what was measured.

    Attributes:
        stored: the model, with external weights still outside.
        report: what was measured.
        scratch: the folder that holds external weights that were changed.
    """

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


@one_thread()
def sparsify(
    model: Source,
    what: Sparsity | float | None = None,
    settings: Settings | None = None,
    **changes: Unpack[SparsifyChanges],
) -> Sparsified:
    """Set single weights to zero: `sparsify("in.onnx", 0.7)`, `sparsify(m, pattern="2:4")`.

    Args:
        model: path or ModelProto; it is not changed.
        what: the share of all numbers that goes, or all options of what to make sparse.
        settings: all others; with `calib` what stays is refitted to the original's outputs.
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
    options = with_samples(options, proto)
    options = sized_by_samples(options, proto, options.calib, data)
    prepared, options = _prepare(proto, not isinstance(model, ModelProto), wanted, options)
    sparse, report = _measured(prepared, wanted, data, options)
    if score is not None:
        after = float(score(_session(sparse, options)))
        evaluation = {"function": score.name, "before": before, "after": after}
        report = replace(report, evaluation=evaluation)
    options.progress("done", 1.0)
    return Sparsified(sparse, report, scratch)


def _settled(
    what: Sparsity | float | None, settings: Settings | None, changes: Mapping[str, Any]
) -> tuple[Sparsity, Settings]:
    """What to make sparse and all other settings, checked."""
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
    """The options that differ from their defaults."""
    plain = asdict(Sparsity())
    return {k: v for k, v in asdict(what).items() if v != plain[k]}


def _session(model: ModelProto, options: DeviceSettings) -> Any:
    return runtime.open_session(graph.model_bytes(external.inlined(model)), options.device)


def _sizes(model: ModelProto) -> Sizes:
    return packed_sizes(lambda: saving.pieces(model), saving.file_bytes(model))


@dataclass(frozen=True)
class _Prepared:
    """A model ready to be made sparse, and what it computes.

    Attributes:
        model: in one scope, with weights that are still dense.
        in_place: whether its weights may be overwritten: it is large, and read from a file.
        sizes: of the file.
        nodes: its operators.
        chosen: the weights to make sparse.
        inputs: seeded inputs.
        outputs: what the dense model makes of them.
        notes: what preparing it took.
    """

    model: ModelProto
    in_place: bool
    sizes: Sizes
    nodes: tuple[Node, ...]
    chosen: Chosen
    inputs: inputs.Feeds
    outputs: Outputs
    notes: tuple[str, ...]


def _prepare(
    proto: ModelProto, from_file: bool, what: Sparsity, options: Settings
) -> tuple[_Prepared, Settings]:
    """Describe a model, select the weights to make sparse, and run it on seeded inputs.

    The options come back with sizes on which the model runs.
    """
    model, notes = normalize.prepare(normalize.distinct(proto))
    in_place = from_file and graph.stored_bytes(model) > graph.LARGE
    nodes = shape_inference.describe(model, ops.traits(), options.input_shapes)
    sized = sized_by_trying(options, model, nodes)
    stored = graph.constants(model)
    weights = weights_of(nodes, {name: tuple(t.dims) for name, t in stored.items()})
    kinds = {weight.name: edit.dtype(stored[weight.name]) for weight in weights}
    picked = select_weights(weights, kinds, what.ops, what.include, options.exclude)
    fit, misfits = fitting(picked.weights, what)
    shapes = shape_inference.sample_shapes(model, sized.input_shapes)
    feeds = inputs.seeded(model, ops.index_bounds(nodes), shapes, options.seed)
    prepared = _Prepared(
        model,
        in_place,
        _sizes(proto),
        nodes,
        Chosen(fit, {**picked.skipped, **misfits}),
        feeds,
        ProofRun(model).run(feeds),
        tuple(notes),
    )
    return prepared, sized


def _measured(
    prepared: _Prepared, what: Sparsity, data: inputs.Data | None, options: Settings
) -> tuple[ModelProto, SparseReport]:
    """Make a model sparse, and measure what that changed."""
    weights = prepared.chosen.weights
    refits = options.calib is not None and options.compensate
    if refits:
        made = calibrated(prepared.model, [weight.name for weight in weights], what, options)
    else:
        made = Made(_with_zeros(prepared, what, options), ())
    read = graph.reader(made.model)
    layers = densities(weights, read, zeros(prepared.nodes, read))
    options.progress("comparing", 0.8)
    compared = _compared(prepared, made.model, data, options)
    notes = [*prepared.notes, *made.notes, *compared.notes, SPEED]
    model = made.model
    if what.storage == "sparse":
        model, note = stored_sparse(model, {weight.name for weight in weights})
        notes.append(note)
    return model, SparseReport(
        _asked(what),
        layers,
        prepared.chosen.skipped,
        (prepared.sizes, _sizes(model)),
        compared.drift,
        compared.latency,
        refits,
        options.environment(),
        notes,
        calibration=made.reach,
    )


def _with_zeros(prepared: _Prepared, what: Sparsity, options: CalibrationSettings) -> ModelProto:
    """Write zeros, one tensor after the other; what was written is read again and proved."""
    scored = scored_by(prepared.model, prepared.nodes, what, options)
    model = prepared.model
    if not prepared.in_place:
        model = ModelProto()
        model.CopyFrom(prepared.model)
    zero = zeros(prepared.nodes, graph.reader(model))
    stored = graph.constants(model)
    weights = prepared.chosen.weights
    with external.spill(options.folder) as put:
        for k, (weight, mask) in enumerate(masks_of(weights, what, scored)):
            tensor = stored[weight.name]
            old, kept = tensors.array(tensor), weight.unlaid(mask)
            nothing = zero(weight.name)
            plain = np.zeros((), old.dtype) if nothing is None else nothing.astype(old.dtype)
            edit.overwrite(tensor, np.where(kept, old, plain), put)
            _prove_written(weight.name, old, tensors.array(tensor), kept, plain)
            options.progress("sparsifying", 0.3 + 0.5 * (k + 1) / len(weights))
    return model


def _compared(
    prepared: _Prepared, model: ModelProto, data: inputs.Data | None, options: DeviceSettings
) -> compare.Comparison:
    """Compare the sparse model with the dense one, which may be overwritten by now."""
    if not prepared.in_place:
        pair = compare.ModelPair(prepared.model, model)
        return compare.compare_models(pair, compare.SeededInputs(prepared.inputs), data, options)
    outputs = OutputPair(prepared.outputs, ProofRun(model).run(prepared.inputs))
    note = "the model is large: compared on seeded inputs alone"
    return compare.Comparison(fidelity([outputs], "seeded inputs"), None, [note])


def _prove_written(name: str, old: Array, new: Array, kept: Array, zero: Array) -> None:
    """Prove that a tensor is bit-identical where it is `kept`, and `zero` elsewhere.

    Raises:
        ProofError: it is not.
    """
    same = (_bits(new) == _bits(old)) | ~kept
    if not same.all() or not ((new == zero) | kept).all():
        raise ProofError(f"'{name}' was not written as it should be: please report it")


def _bits(array: Array) -> Array:
    """The same numbers as integers, so that NaN and minus zero compare as they are stored."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
