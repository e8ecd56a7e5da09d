"""What the proof compares with, where zeroed weights alone are not enough.

Sums of activations must see zeros at dead positions, what subtracts a mean must see that mean
there, and a normalisation that is cut inexactly must see the kept positions only. All of it is
written into the original's weightless skeleton. A model that rounds is looked at where it does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto

from onnxprune.ir import subgraphs
from onnxprune.ir.element_types import element_types
from onnxprune.ir.graph import op_key, set_attributes
from onnxprune.types import Detour, Mask

__all__ = ["decided", "detoured", "given", "handed_over", "masked", "shown"]


def masked(bare: ModelProto, masks: Sequence[Mask]) -> ModelProto:
    """Let a skeleton read zeros at dead positions; which ones live is an input per mask's axis.

    A centred mask puts the mean of the living ones there.
    """
    if not masks:
        return bare
    kinds = element_types(bare, {mask.axis.tensor for mask in masks})
    nodes = {_key(node): node for node in subgraphs.nodes(bare.graph)}
    before: dict[str, list[NodeProto]] = {}
    made: dict[str, str] = {}
    for mask in (m for m in masks if m.node in nodes):
        node = nodes[mask.node]
        source, result = node.input[mask.input], _result(mask)
        if mask.feed not in made:
            made[mask.feed] = mask.axis.tensor
            bare.graph.input.append(  # of any shape that is broadcast
                onnx.helper.make_tensor_value_info(mask.feed, onnx.TensorProto.BOOL, None)
            )
        zero = f"zero/{kinds[mask.axis.tensor]}"
        if zero not in made:
            made[zero] = zero
            bare.graph.initializer.append(
                onnx.helper.make_tensor(zero, kinds[mask.axis.tensor], [], [0])
            )
        selected = f"{result}/summed" if mask.centred else result
        before.setdefault(mask.node, []).append(_selected(mask, source, zero, selected))
        if mask.centred:
            before[mask.node] += _centred(bare, mask, source, kinds[mask.axis.tensor])
        node.input[mask.input] = result
    for inner in list(subgraphs.graphs(bare.graph)):
        _put(inner, [n for node in inner.node for n in (*before.get(_key(node), ()), node)])
    return bare


def _centred(bare: ModelProto, mask: Mask, source: str, kind: int) -> list[NodeProto]:
    """Put the mean of the living positions at the dead ones, which are zero in `summed`."""
    result, axis = _result(mask), mask.axis.axis
    living = f"{result}/living"
    _declare(bare, result, source)
    return [
        onnx.helper.make_node("Cast", [mask.feed], [living], to=kind),
        _mean(bare, f"{result}/summed", f"{result}/sum", axis),
        _mean(bare, living, f"{result}/share", axis),
        onnx.helper.make_node("Div", [f"{result}/sum", f"{result}/share"], [f"{result}/mean"]),
        _selected(mask, source, f"{result}/mean", result),
    ]


def _selected(mask: Mask, source: str, other: str, target: str) -> NodeProto:
    """Living positions of one tensor, dead ones of another."""
    return onnx.helper.make_node("Where", [mask.feed, source, other], [target])


def _declare(bare: ModelProto, result: str, source: str) -> None:
    """Say that a result has the shape of a stored tensor, which some operators insist on."""
    for tensor in bare.graph.initializer:
        if tensor.name == source:
            info = onnx.helper.make_tensor_value_info(result, tensor.data_type, tensor.dims)
            bare.graph.value_info.append(info)
    for value in bare.graph.input:
        if value.name == source:
            bare.graph.value_info.append(onnx.ValueInfoProto(name=result, type=value.type))


def _result(mask: Mask) -> str:
    return f"{mask.feed}/{mask.node}/{mask.input}"


def _mean(bare: ModelProto, source: str, target: str, axis: int) -> NodeProto:
    """The mean over an axis, in the opset of the model: axes became an input in 18."""
    opset = max(o.version for o in bare.opset_import if o.domain in ("", "ai.onnx"))
    mean = onnx.helper.make_node("ReduceMean", [source], [target])
    if opset < 18:
        set_attributes(mean, {"axes": (axis,)})
        return mean
    mean.input.append(f"{target}/axes")
    axes = onnx.helper.make_tensor(mean.input[1], onnx.TensorProto.INT64, [1], [axis])
    bare.graph.initializer.append(axes)
    return mean


def _put(inner: GraphProto, nodes: Sequence[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del inner.node[:]
    inner.node.extend(copies)


def detoured(bare: ModelProto, detours: Sequence[Detour]) -> ModelProto:
    """Let nodes of a skeleton run on kept positions only; dead positions then repeat a kept one.

    What reads the dead positions has zero weights there, or is masked.
    """
    if not detours:
        return bare
    by_name = {detour.node: detour for detour in detours}
    for inner in list(subgraphs.graphs(bare.graph)):
        ordered = list[NodeProto]()
        for node in inner.node:
            detour = by_name.get(_key(node))
            before, after = _around(bare, node, detour) if detour is not None else ([], [])
            ordered += [*before, node, *after]
        _put(inner, ordered)
    return bare


def shown(bare: ModelProto, names: Iterable[str]) -> ModelProto:
    """A copy of a skeleton with further tensors as outputs."""
    copy = ModelProto()
    copy.CopyFrom(bare)
    known = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return copy


def given(name: str) -> str:
    """The input that stands for a tensor."""
    return f"given/{name}"


def handed_over(
    bare: ModelProto, kinds: Mapping[str, np.dtype[Any]], readers: Collection[str]
) -> ModelProto:
    """A copy of a skeleton whose `readers` (operators) read tensors from inputs.

    `kinds` are the tensors' types by name; they become outputs where they are computed.
    """
    copy = shown(bare, kinds)
    for name, kind in kinds.items():
        number = onnx.helper.np_dtype_to_tensor_dtype(kind)
        copy.graph.input.append(onnx.helper.make_tensor_value_info(given(name), number, None))
    for node in subgraphs.nodes(copy.graph):
        if op_key(node) in readers:
            names = [given(name) if name in kinds else name for name in node.input]
            del node.input[:]
            node.input.extend(names)
    return copy


def decided(bare: ModelProto, conditions: Collection[str], ways: Sequence[bool]) -> ModelProto:
    """A copy of a skeleton in which each node on one of `conditions` takes a branch by its depth.

    `ways` says which: the first for nodes of the main graph, the next for those in their bodies,
    and from the start again.
    """
    copy = ModelProto()
    copy.CopyFrom(bare)
    taken = set[bool]()

    def decide(inner: GraphProto, depth: int) -> None:
        for node in inner.node:
            within = subgraphs.bodies(node)
            if within and node.input[0] in conditions:
                way = ways[depth % len(ways)]
                taken.add(way)
                node.input[0] = f"always/{way}"
            for _, body in within:
                decide(body, depth + 1)

    decide(copy.graph, 0)
    for way in sorted(taken):  # unread tensors are refused before IR version 4
        value = onnx.helper.make_tensor(f"always/{way}", onnx.TensorProto.BOOL, [], [way])
        copy.graph.initializer.append(value)
    return copy


def _around(
    bare: ModelProto, node: NodeProto, detour: Detour
) -> tuple[list[NodeProto], list[NodeProto]]:
    """Picks before and after a node, which is changed in place."""
    before, after = list[NodeProto](), list[NodeProto]()
    named = [k for k, name in enumerate(node.output) if name]  # rules see no others

    def pick(source: str, target: str, axis: int, positions: NDArray[Any]) -> NodeProto:
        index = f"{target}/positions"
        bare.graph.initializer.append(onnx.numpy_helper.from_array(positions, index))
        return onnx.helper.make_node("Gather", [source, index], [target], axis=axis)

    for k, axis, kept in detour.cut:
        target = f"{detour.node}/kept/{k}.{axis}"
        before.append(pick(node.input[k], target, axis, kept))
        node.input[k] = target
    for k, axis, place in detour.back:
        source, at = f"{detour.node}/small/{k}.{axis}", named[k]
        after.insert(0, pick(source, node.output[at], axis, place))
        node.output[at] = source
    set_attributes(node, detour.attrs)
    return before, after


def _key(node: NodeProto) -> str:
    """What masks and detours call a node: its first output that has a name."""
    return next((name for name in node.output if name), "")
