"""Quantize a model to eight-bit integers with onnxruntime's own quantizer.

The model is prepared first: shapes are inferred anew, because those stored in a pruned model would
mislead the quantizer, and onnxruntime's basic optimisation folds normalisations. Weights are
quantized symmetrically, so that zero is stored as zero; that no zero is lost is proved afterwards.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune import ops
from onnxprune.calibration.samples import Calibration
from onnxprune.errors import InputError, OnnxpruneError, ProofError, check_kinds, one_line
from onnxprune.ir import external_data, graph, load, runtime, save, subgraphs, tensors
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds
from onnxprune.ir.result_kinds import declare_kinds
from onnxprune.pipeline.paired_weights import INTEGERS, narrow
from onnxprune.pipeline.quantizer_input import check_has_weights, with_free_names
from onnxprune.temporary_files import TemporaryFolder

__all__ = ["MODES", "Quantization", "evenly_spread", "prove_zeros", "quantize", "quantized"]

MODES = ("static", "dynamic")
#: Samples that ranges are taken from, at most.
SAMPLES = 256
#: The opset from which on DequantizeLinear has an axis, so that channels can have own scales.
PER_CHANNEL_OPSET = 13
#: What the quantizer appends to a weight's name for the zero point of its integers.
ZERO_POINT = "_zero_point"


@dataclass(frozen=True)
class Quantization:
    """How to quantize.

    Attributes:
        mode: `static` takes the ranges of activations from samples and writes QuantizeLinear and
            DequantizeLinear pairs; `dynamic` measures the ranges at run time.
        per_channel: whether each output channel has a scale of its own; below opset 13 the static
            mode has one for each weight in any case.
        exclude: names of nodes that stay as they are.
        full_range: keep all eight bits of weights, although sums of products then saturate on
            processors with AVX2 but without VNNI; see `onnxprune.pipeline.paired_weights`.
    """

    mode: str = "static"
    per_channel: bool = True
    exclude: Sequence[str] = ()
    full_range: bool = False


class _BatchReader:
    """Gives batches one after the other, as onnxruntime's CalibrationDataReader does."""

    def __init__(self, batches: Sequence[Feeds]) -> None:
        self._rest = iter(batches)

    def get_next(self) -> Feeds | None:
        """The next batch, None at the end."""
        feeds = next(self._rest, None)
        return None if feeds is None else dict(feeds)


def quantize(
    model: ModelProto, options: Quantization, data: Calibration | None = None
) -> ModelProto:
    """Quantize weights and activations.

    Args:
        model: it is not changed.
        options: how.
        data: samples, which the static mode needs.

    Raises:
        InputError: an option has a value that does not exist, or the quantizer refuses the model.
        ProofError: a zero of a weight was lost.
    """
    return quantized(model, options, data)[0]


def quantized(
    model: ModelProto, options: Quantization, data: Calibration | None = None
) -> tuple[ModelProto, list[str]]:
    """Quantize, see `quantize`; the model, and what the report says of it."""
    check_kinds(options)
    if options.mode not in MODES:
        raise InputError(
            f"unknown mode '{options.mode}' of quantise. There are: {', '.join(MODES)}"
        )
    if options.mode == "static" and data is None:
        raise InputError("quantise: the static mode takes ranges from samples: give calib")
    from onnxruntime.quantization.shape_inference import quant_pre_process  # slow to import

    with _folder() as folder, _quiet():
        plain, ready, made = (folder / f"{name}.onnx" for name in ("plain", "ready", "made"))
        # of a model in memory the quantizer takes out weights that shapes depend on
        save.save(with_free_names(model), plain)
        try:
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            prepared = load.load(ready)
            check_has_weights(prepared, _operators(options.mode))
            declare_kinds(prepared)
            save.save(prepared, ready)
            _run_quantizer(ready, made, options, data)
        except Exception as error:  # the quantizer raises errors of any type
            if isinstance(error, (OSError, MemoryError, OnnxpruneError)):
                raise
            raise InputError(
                f"onnxruntime's quantiser does not take the model: {one_line(error).rstrip('.')}. "
                "Leave out the stage, or name nodes in its exclude."
            ) from error
        before, after = _loaded(ready), _loaded(made)
    notes = [] if options.full_range else [note for note in (narrow(before, after).note(),) if note]
    prove_zeros(before, after)
    small = _with_short_names(_without_repeats(after), before)
    _check_runs(small)
    return small, notes


def _check_runs(made: ModelProto) -> None:
    """Refuse what the quantizer made where it is no valid model.

    Raises:
        InputError: onnxruntime does not load it.
    """
    try:
        runtime.open_session(graph.model_bytes(made))
    except InputError as error:
        why = runtime.message_of(error.__cause__ if error.__cause__ else error)
        raise InputError(
            f"onnxruntime does not load what its quantiser makes of the model: {why}. "
            "Leave out the stage, or name nodes in its exclude."
        ) from error


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for what the quantizer reads and writes, its own temporary folders among it.

    Raises:
        InputError: something cannot be written there.
    """
    before = tempfile.tempdir
    try:
        with TemporaryFolder() as folder:
            tempfile.tempdir = str(folder)
            yield folder
    except OSError as error:
        raise InputError(
            f"quantise needs the temporary folder, {before or tempfile.gettempdir()}, which cannot "
            f"be written: {error.strerror}. Free space, or set TMPDIR."
        ) from error
    finally:
        tempfile.tempdir = before


def _loaded(path: Path) -> ModelProto:
    model = load.load(path)
    external_data.resolve(model, path)
    return external_data.inlined(model)


def _operators(mode: str) -> set[str]:
    """The operators whose weights a mode of the quantizer takes."""
    from onnxruntime.quantization import registry

    if mode == "dynamic":
        return set(registry.IntegerOpsRegistry)
    return {*registry.QLinearOpsRegistry, *registry.QDQRegistry}


def _run_quantizer(
    ready: Path, made: Path, options: Quantization, data: Calibration | None
) -> None:
    """Quantize the prepared model in the file `ready` and write it to `made`."""
    from onnxruntime import quantization

    # onnxruntime joins integer convolutions with biases of floating point: these need no scale
    common: dict[str, Any] = {
        "per_channel": options.per_channel,
        "weight_type": quantization.QuantType.QInt8,
        "nodes_to_exclude": list(options.exclude),
        "extra_options": {
            "WeightSymmetric": True,
            "QuantizeBias": False,
        },
    }
    if options.mode == "dynamic" or data is None:
        quantization.quantize_dynamic(str(ready), str(made), **common)
        return
    opset = {entry.domain: entry.version for entry in load.load(ready).opset_import}
    common["per_channel"] &= opset.get("", PER_CHANNEL_OPSET) >= PER_CHANNEL_OPSET
    quantization.quantize_static(
        str(ready),
        str(made),
        _BatchReader(evenly_spread(data)),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        **common,
    )


def evenly_spread(data: Calibration) -> list[Feeds]:
    """Batches that hold about `SAMPLES` samples, evenly spread."""
    count = max(1, min(len(data.sizes), round(SAMPLES * len(data.sizes) / data.samples)))
    return [data.batches[k * len(data.sizes) // count] for k in range(count)]


def _without_repeats(model: ModelProto) -> ModelProto:
    """Drop stored shapes, which can be inferred again, and repeated scales and zero points.

    The model is changed in place.
    """
    del model.graph.value_info[:]
    first: dict[bytes, str] = {}
    replaced: dict[str, str] = {}
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        fixed |= subgraphs.needs(node) - set(node.input)
    for tensor in list(model.graph.initializer):
        if len(tensor.dims) > 1 or tensor.name in fixed:
            continue
        name, tensor.name = tensor.name, ""
        known = first.setdefault(tensor.SerializeToString(deterministic=True), name)
        tensor.name = name
        if known != name:
            replaced[name] = known
            model.graph.initializer.remove(tensor)
    for node in model.graph.node:
        node.input[:] = [replaced.get(name, name) for name in node.input]
    return model


def _with_short_names(model: ModelProto, before: ModelProto) -> ModelProto:
    """Give what the quantizer added short names, which take less space than its own.

    Weights keep theirs, and so does everything that bodies of control flow may read. The model is
    changed in place; `before` is the one that was quantized.
    """
    kept = {name for node in before.graph.node for name in (*node.input, *node.output)}
    kept |= {tensor.name for tensor in model.graph.initializer if len(tensor.dims) > 1}
    for node in model.graph.node:
        kept |= subgraphs.needs(node) - set(node.input)
    kept |= {value.name for value in (*model.graph.input, *model.graph.output)}
    free = (name for name in map("q:{}".format, itertools.count()) if name not in kept)
    short: dict[str, str] = {"": ""}

    def named(name: str) -> str:
        if name not in kept and name not in short:
            short[name] = next(free)
        return short.get(name, name)

    for node in model.graph.node:
        node.input[:] = map(named, node.input)
        node.output[:] = map(named, node.output)
        if node.op_type in ops.ENCODERS or node.op_type in ops.DECODERS:
            node.name = ""
    for tensor in model.graph.initializer:
        tensor.name = named(tensor.name)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer, whose advice is not for our users, and whose errors are raised too."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def prove_zeros(before: ModelProto, after: ModelProto) -> None:
    """Prove that every zero of a weight is stored as its zero point in the quantized model.

    Raises:
        ProofError: one is not.
    """
    old, new = graph.constants(before), graph.constants(after)
    for name, tensor in old.items():
        made = new.get(name + INTEGERS)
        if made is None or list(made.dims) != list(tensor.dims) or len(tensor.dims) < 2:
            continue
        zero = new.get(name + ZERO_POINT)
        points = np.zeros(1) if zero is None else tensors.array(zero).ravel()
        gone = tensors.array(tensor) == 0
        if np.isin(tensors.array(made)[gone], points).all():
            continue
        raise ProofError(f"quantising lost zeros of '{name}': nothing was written")
