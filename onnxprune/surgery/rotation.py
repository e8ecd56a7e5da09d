"""Turn residual streams by orthogonal matrices, folded into what writes and reads them.

The model computes what it did, with no operator more: γ and β go into the layers behind a
normalisation, weights of writers are multiplied with Q, those of readers with its inverse. Then
channels of the stream are directions of one's choice, of which many may carry little (SliceGPT,
Ashkboos and others, ICLR 2024).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.streams import find_stream
from onnxprune.groups.turning import Rotation, Stream
from onnxprune.ir.patch import patch
from onnxprune.settings import RunSettings
from onnxprune.surgery.cut import Stage, equal, running
from onnxprune.types import Floats, Plan

__all__ = ["folded", "rotated", "rotations_of", "values_of"]

#: By how much a matrix of a plan file may miss being orthogonal.
SLACK = 1e-4


def folded(analysis: Analysis, streams: Sequence[Stream]) -> Analysis:
    """The same model, with γ and β of the streams' normalisations in the layers behind them."""
    matrices = [np.eye(stream.group.channels) for stream in streams]
    return analysis.with_weights(_patches(analysis, streams, matrices))


def rotated(analysis: Analysis, rotations: Sequence[Rotation], options: RunSettings) -> Stage:
    """Turn streams, and prove that nothing changes.

    Args:
        analysis: the model, with a bias in every layer.
        rotations: which streams, and how.
        options: the user's settings.

    Raises:
        InputError: a stream is not there, or cannot be turned.
        ProofError: the model does not compute what it did.
    """
    streams = [_stream(analysis, rotation) for rotation in rotations]
    matrices = [rotation.matrix.astype(np.float64) for rotation in rotations]
    patches = _patches(analysis, streams, matrices)
    with running(analysis, options) as original:
        model = patch(analysis.model, patches, options.folder)
        proof, made = equal(analysis, model, original)
        inputs, outputs = original.inputs, original.outputs
    if not proof.passed:
        raise ProofError(
            f"turning streams changed output '{proof.output}' by {proof.max_relative_error:.2g}, "
            "more than rounding should. Leave rotate out."
        )
    names = ", ".join(rotation.group for rotation in rotations)
    told = (
        f"first {len(rotations)} residual streams were turned to principal directions of their "
        f"activations ({names}); that model equals the original, relative error "
        f"{proof.max_relative_error:.1e}"
    )
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    plan = Plan({}, {})
    turned = tuple(rotations)
    return Stage(
        *(analysis, kept, plan, model, proof, inputs, outputs, made), told=told, rotations=turned
    )


def _stream(analysis: Analysis, rotation: Rotation) -> Stream:
    name, size = rotation.group, len(rotation.matrix)
    group = next((group for group in analysis.groups if group.name == name), None)
    if group is None or group.channels != size:
        raise InputError(
            f"the plan turns '{name}' with {size} channels; the model has no such group. Plans fit "
            "other checkpoints of the same graph only."
        )
    found = find_stream(analysis, group)
    if not isinstance(found, Stream):
        why = found or "nothing normalises it"
        raise InputError(
            f"the plan turns '{name}', which cannot be: {why}. Give a plan for this model."
        )
    if found.centred and not np.allclose(rotation.matrix.sum(1), 1, atol=SLACK * np.sqrt(size)):
        raise InputError(
            f"the plan turns '{name}' by a matrix that does not keep the mean, which LayerNorm "
            "subtracts. Give a plan for this model."
        )
    return found


def _patches(
    analysis: Analysis, streams: Sequence[Stream], matrices: Sequence[Floats]
) -> dict[str, NDArray[Any]]:
    """New content of stored tensors, in double precision."""
    changed: dict[str, Floats] = {}

    def content(name: str) -> Floats:
        if name not in changed:
            stored = analysis.read(name)
            assert stored is not None
            changed[name] = np.array(stored, np.float64)
        return changed[name]

    for stream, turn in zip(streams, matrices, strict=True):
        # a mean that nothing sees would lie on every position, and be missed where one is cut
        matrix = turn - turn.mean(1, keepdims=True) if stream.meanless else turn
        for fold in stream.folds:
            layer = next(la for la in analysis.layers if la.weight.name == fold.weight)
            bias = content(fold.bias)
            moved = np.moveaxis(content(fold.weight), fold.axis, 0)
            brought = np.tensordot(fold.beta, moved, 1)
            out = layer.kernel.out_axis % layer.weight.rank
            others = tuple(k for k in range(brought.ndim) if k != out - (out > fold.axis))
            bias += brought.sum(others).reshape(bias.shape)
        for use in stream.uses:
            before = content(use.tensor)
            if use.kind == "turned":
                rows = np.moveaxis(before, use.axis, -1)
                rows = rows if use.gamma is None else rows * use.gamma
                changed[use.tensor] = np.moveaxis(rows @ matrix.T, -1, use.axis)
            else:
                changed[use.tensor] = np.full_like(before, use.kind == "ones")
    return changed


def values_of(rotations: Sequence[Rotation]) -> list[dict[str, Any]]:
    """Rotations as a plan file holds them: rows of float32, little endian, in base64."""
    return [
        {
            "group": rotation.group,
            "size": len(rotation.matrix),
            "matrix": base64.b64encode(rotation.matrix.astype("<f4").tobytes()).decode(),
        }
        for rotation in rotations
    ]


def rotations_of(entries: Sequence[Mapping[str, Any]]) -> tuple[Rotation, ...]:
    """Rotations from what a plan file holds.

    Raises:
        InputError: they are no orthogonal matrices.
    """
    return tuple(_rotation(entry) for entry in entries)


def _rotation(entry: Mapping[str, Any]) -> Rotation:
    try:
        name, size = str(entry["group"]), int(entry["size"])
        content = base64.b64decode(entry["matrix"], validate=True)
        matrix = np.frombuffer(content, "<f4").reshape(size, size).astype(np.float32)
    except (KeyError, TypeError, ValueError, binascii.Error, AttributeError) as error:
        raise InputError(
            "the plan's rotations cannot be read. Give a plan file as it was written."
        ) from error
    wide = matrix.astype(np.float64)
    if not size or not np.allclose(wide @ wide.T, np.eye(size), atol=SLACK):
        raise InputError(
            f"the plan turns '{name}' by a matrix that is not orthogonal. "
            "Give a plan file as it was written."
        )
    return Rotation(name, matrix)
