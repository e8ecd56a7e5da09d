"""Eight-bit integers by onnxruntime's own quantiser, called as it wants to be.

The model is prepared first (shapes inferred anew, normalisations folded by onnxruntime's basic
optimisation), since stale shapes of a pruned model would mislead it. Weights are symmetric, so
that zero is stored as zero; that no zero is lost is checked afterwards.
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
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.samples import Calibration
from onnxprune.errors import InputError, ProofError, one_line
from onnxprune.ir import external_data, graph, load, runtime, save, subgraphs, tensors
from onnxprune.ir.graph import ModelProto

__all__ = ["MODES", "Quantization", "quantize"]

MODES = ("static", "dynamic")
#: Samples that ranges are taken from, at most.
SAMPLES = 256
#: The opset from which DequantizeLinear knows an axis.
AXIS = 13
#: How the quantiser names what it makes of a weight.
SUFFIX, ZERO = "_quantized", "_zero_point"


@dataclass(frozen=True)
class Quantization:
    """How to quantise.

    Attributes:
        mode: `static` takes ranges of activations from samples and writes QuantizeLinear and
            DequantizeLinear pairs; `dynamic` finds them at run time.
        per_channel: each output channel has a scale of its own; below opset 13 the static mode
            knows one for each weight only.
        exclude: names of nodes that stay as they are.
    """

    mode: str = "static"
    per_channel: bool = True
    exclude: Sequence[str] = ()


class _Reader:
    """Batches one after the other, as onnxruntime's CalibrationDataReader gives them."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.rest = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next one, None at the end."""
        feeds = next(self.rest, None)
        return None if feeds is None else dict(feeds)


def quantize(model: ModelProto, how: Quantization, data: Calibration | None = None) -> ModelProto:
    """The model in integers; `data` is needed for the static mode.

    Raises:
        InputError: an option that cannot be, or a model that the quantiser does not take.
        ProofError: a zero of a weight was lost.
    """
    if how.mode not in MODES:
        raise InputError(f"unknown mode '{how.mode}' of quantise. There are: {', '.join(MODES)}")
    if how.mode == "static" and data is None:
        raise InputError("quantise: the static mode takes ranges from samples: give calib")
    from onnxruntime.quantization.shape_inference import quant_pre_process  # slow to import

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, ready, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "made"))
        save.save(model, plain)  # of a model in memory it hides shapes from shape inference
        try:
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            _quantised(ready, made, how, data)
        except Exception as error:  # whatever the quantiser raises is its answer
            raise InputError(
                f"onnxruntime's quantiser does not take the model: {one_line(error)}"
            ) from error
        before, result = _loaded(ready), _loaded(made)
        _keeps_zeros(before, result)
    slim = _renamed(_slim(result), before)
    runtime.open_session(graph.model_bytes(slim))  # raises where the quantiser made nonsense
    return slim


def _loaded(path: Path) -> ModelProto:
    model = load.load(path)
    external_data.resolve(model, path)
    return external_data.inlined(model)


def _quantised(ready: Path, made: Path, how: Quantization, data: Calibration | None) -> None:
    from onnxruntime import quantization

    common: dict[str, Any] = {
        "per_channel": how.per_channel,
        "weight_type": quantization.QuantType.QInt8,
        "nodes_to_exclude": list(how.exclude),
        "extra_options": {"WeightSymmetric": True, "QuantizeBias": not _fuses_plain_biases()},
    }
    if how.mode == "dynamic" or data is None:
        quantization.quantize_dynamic(str(ready), str(made), **common)
        return
    opset = {entry.domain: entry.version for entry in load.load(ready).opset_import}
    common["per_channel"] &= opset.get("", AXIS) >= AXIS
    quantization.quantize_static(
        str(ready),
        str(made),
        _Reader(_some(data)),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        **common,
    )


def _some(data: Calibration) -> list[Any]:
    """Batches that hold about `SAMPLES` samples, evenly spread."""
    count = max(1, min(len(data.sizes), round(SAMPLES * len(data.sizes) / data.samples)))
    return [data.batches[k * len(data.sizes) // count] for k in range(count)]


def _slim(model: ModelProto) -> ModelProto:
    """Without shapes that can be inferred again, and equal scales and zero points only once."""
    del model.graph.value_info[:]
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
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
            same[name] = known
            model.graph.initializer.remove(tensor)
    for node in model.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    return model


def _renamed(model: ModelProto, before: ModelProto) -> ModelProto:
    """With short names for what the quantiser added: long ones cost more than small scales do.

    Weights keep theirs, and so does everything that control flow may read.
    """
    old = {name for node in before.graph.node for name in (*node.input, *node.output)}
    kept = old | {tensor.name for tensor in model.graph.initializer if len(tensor.dims) > 1}
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


def _fuses_plain_biases() -> bool:
    """Whether this onnxruntime makes integer convolutions where the bias stays as it is.

    It does from 1.20 on; then a bias needs neither a scale nor a node of its own.
    """
    major, minor = (int(part) for part in runtime.version().split(".")[:2])
    return (major, minor) >= (1, 20)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser's advice is not for our users, and its errors are raised as well."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _keeps_zeros(before: ModelProto, after: ModelProto) -> None:
    """Every zero of a weight is its zero point now, or ProofError."""
    old, new = graph.constants(before), graph.constants(after)
    for name, tensor in old.items():
        made = new.get(name + SUFFIX)
        if made is None or list(made.dims) != list(tensor.dims) or len(tensor.dims) < 2:
            continue
        zero = new.get(name + ZERO)
        points = np.zeros(1) if zero is None else tensors.array(zero).ravel()
        gone = tensors.array(tensor) == 0
        if np.isin(tensors.array(made)[gone], points).all():
            continue
        raise ProofError(f"quantising lost zeros of '{name}': nothing was written")
