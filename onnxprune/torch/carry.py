"""Bring the weights of a pruned file, refitted or tuned, back into the entries of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.groups.layers import Layer
from onnxprune.ir import graph, zero_biases
from onnxprune.ir.graph import ModelProto
from onnxprune.torch.cuts import Cuts
from onnxprune.torch.origins import Match
from onnxprune.torch.planned import Planned
from onnxprune.types import Axis, Read

__all__ = ["Carried", "carried"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Carried:
    """New numbers, all of them in the full sizes of before.

    Attributes:
        entries: by name.
        biases: of layers that have none, by the name of their weight, whose axis `out` they have
            a number for each position of.
    """

    entries: Mapping[str, Array]
    biases: Mapping[str, tuple[int, Array]]


def carried(
    done: Planned,
    matches: Mapping[str, Match],
    cuts: Cuts,
    pruned: ModelProto,
    checkpoint: tuple[Mapping[str, Array], Mapping[str, float]],
) -> Carried:
    """Take the numbers of a pruned model.

    Args:
        done: the exported model and its plan.
        matches: what its stored tensors are made of.
        cuts: what happens to the entries.
        pruned: the model after `prune`.
        checkpoint: its arrays, and ε of the normalisations in it, by module.

    A normalisation that was multiplied into its layer keeps what is left to it: statistics of 0
    and 1, a scale that undoes ε, and the layer's bias.

    Raises:
        InputError: the model is no result of the plan, or a tensor that was changed is made of no
            entry.
    """
    _refuse_whole_blocks(done)
    arrays, epsilons = checkpoint
    after, entries = graph.reader(pruned), dict[str, Array]()
    folded = {name: _bias_of(done, matches, name) for name in cuts.folded}
    for name, full, changed in _kept_numbers(done, after):
        parts = matches[name].parts if name in matches else ()
        if not parts and changed and name not in folded.values():
            raise InputError(
                f"'{name}' was refitted, and is made of no parameter of the module: leave "
                "carry_weights out, or prune with --no-compensate"
            )
        for part in parts if changed or any(p.entry in folded for p in parts) else ():
            old = entries.get(part.entry, arrays[part.entry])
            entries[part.entry] = part.restored(full, old).astype(old.dtype)
    for weight, prefix in cuts.folded.items():
        bias = folded[weight]
        values = None if bias is None else _full(done, bias, after)
        size = len(arrays[f"{prefix}.running_var"])
        entries |= _neutral(prefix, size, epsilons[prefix], values)
        own = weight.removesuffix("weight") + "bias"
        if own in arrays:
            entries[own] = np.zeros_like(arrays[own])
    return Carried(entries, dict(_added(done, matches, after, pruned)))


def _refuse_whole_blocks(done: Planned) -> None:
    if not all(mask.any() for mask in done.kept):
        raise InputError(
            "the plan removes whole blocks, whose compensated biases no module holds: prune with "
            "--min-channels 2, or leave carry_weights out"
        )


def _kept_numbers(done: Planned, after: Read) -> Iterator[tuple[str, Array, bool]]:
    """Stored tensors with the pruned model's numbers, in the old sizes; whether those are new."""
    for name in done.analysis.stored:
        before = done.read(name)
        if before is None or before.dtype.kind != "f" or before.size < 2:
            continue
        full = _full(done, name, after)
        if full is not None:
            yield name, full, not np.array_equal(full, before)


def _full(done: Planned, name: str, after: Read) -> Array | None:
    """A tensor of the original with the numbers of the pruned model where those stay."""
    before, now = done.read(name), after(name)
    if before is None or now is None:
        return None
    keep = [
        done.plan.keep.get(Axis(name, axis), np.arange(size))
        for axis, size in enumerate(before.shape)
    ]
    if now.shape != tuple(map(len, keep)):
        raise InputError(
            f"'{name}' has shape {list(now.shape)} in the pruned file, the plan leaves "
            f"{[len(k) for k in keep]}: give the file that was written with this plan"
        )
    full: Array = before.copy()
    full[np.ix_(*keep)] = now / done.times.get(name, 1.0)
    return full


def _bias_of(done: Planned, matches: Mapping[str, Match], weight: str) -> str | None:
    """Name of the stored bias of the layer whose weight is an entry."""
    for node in done.analysis.nodes:
        for kernel in ops.kernels_of(node):
            tensor = node.input(kernel.index)
            bias = None if kernel.bias is None else node.input(kernel.bias)
            match = None if tensor is None else matches.get(tensor.name)
            if match is not None and bias is not None and match.parts[0].entry == weight:
                return bias.name
    return None


def _neutral(prefix: str, size: int, epsilon: float, bias: Array | None) -> dict[str, Array]:
    """A normalisation that only adds a bias."""
    return {
        f"{prefix}.weight": np.full(size, np.sqrt(1 + epsilon), np.float32),
        f"{prefix}.bias": np.zeros(size, np.float32) if bias is None else bias.ravel(),
        f"{prefix}.running_mean": np.zeros(size, np.float32),
        f"{prefix}.running_var": np.ones(size, np.float32),
    }


def _added(
    done: Planned, matches: Mapping[str, Match], after: Read, pruned: ModelProto
) -> Iterator[tuple[str, tuple[int, Array]]]:
    """Biases that refitting gave to layers that had none."""
    layers = {layer.node.outputs[0].name: layer for layer in done.analysis.layers}
    for name in graph.constants(pruned):
        values = after(name)
        if not zero_biases.is_added(name) or values is None:
            continue
        layer = layers.get(name.removesuffix(f"/{zero_biases.MARK}"))
        place = None if layer is None else _output_axis(layer, matches)
        if layer is None or place is None:
            raise InputError(
                f"bias '{name}' belongs to no layer of the module: leave carry_weights out"
            )
        full = np.zeros(layer.weight.size(layer.kernel.out_axis) or 0, values.dtype)
        at = Axis(layer.weight.name, layer.kernel.out_axis % layer.weight.rank)
        full[done.plan.keep.get(at, np.arange(len(full)))] = values.ravel()
        yield place[0], (place[1], full)


def _output_axis(layer: Layer, matches: Mapping[str, Match]) -> tuple[str, int] | None:
    """The entry of a layer's weight, and its axis of output channels."""
    match = matches.get(layer.weight.name)
    if match is None or len(match.parts) != 1:
        return None
    origins = match.axes[layer.kernel.out_axis % layer.weight.rank]
    return (origins[0].entry, origins[0].axis) if origins else None
