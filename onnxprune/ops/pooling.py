"""Operators over space that leave channels alone: pools, reductions, resizing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops import indexing_gradient, pooling_gradient, resizing_gradient, scaled_statistics
from onnxprune.ops.constants import constant, followed, unknown, zeros_of
from onnxprune.ops.facets import AVERAGES, EQUIVARIANT, LARGEST, mark, state
from onnxprune.ops.gradients import FLAT, gradient
from onnxprune.ops.moments import kept, moments
from onnxprune.ops.moments_places import moved
from onnxprune.ops.pooling_gradient import reduction
from onnxprune.ops.registry import (
    centres,
    couples,
    inexact,
    jumps,
    same,
    same_but,
    shrinks,
    stored_entries,
    sums,
)
from onnxprune.ops.turning import LINEAR, POWERS
from onnxprune.types import Coupling, Edit, Floats, Free, Kept, Node, Tensor

REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
""".split()
#: A zero adds nothing to these; a mean goes on being divided by the old width.
SUMMING = "ReduceL1 ReduceL2 ReduceLogSum ReduceMean ReduceSum ReduceSumSquare".split()
#: A zero counts here, so removal changes the result a little.
AVERAGING = ("ReduceLogSumExp",)
MEAN = "ReduceMean"


@couples(
    *"""
    AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool
""".split(),
)
def pool(node: Node) -> Iterator[Coupling]:
    """Samples and channels are independent; MaxPool's indices count over channels."""
    if len(node.outputs) == 1:
        yield from same(node.inputs[0], 0, node.outputs[0], 0)
        yield from same(node.inputs[0], 1, node.outputs[0], 1)


@couples("RoiAlign", "MaxRoiPool")
def roi(node: Node) -> Iterator[Coupling]:
    """Channels are independent; samples become regions."""
    yield from same(node.inputs[0], 1, node.outputs[0], 1)


def _reduced(node: Node) -> set[int] | None:
    """The axes summed over, None where unknown."""
    x = node.inputs[0]
    if x is None or x.rank < 0:
        return None
    axes = node.attrs.get("axes")
    second = node.input(1)
    if second is not None:
        axes = second.ints()
        if axes is None or None in axes:
            return None
    if not axes:
        return set() if node.attrs.get("noop_with_empty_axes", 0) else set(range(x.rank))
    return {int(axis) % x.rank for axis in axes}


@couples(*REDUCTIONS)
def reduce(node: Node) -> Iterator[Coupling | Free]:
    """The axes that are not reduced keep their order; zeros may leave a sum."""
    x, y, reduced = node.inputs[0], node.outputs[0], _reduced(node)
    if x is None or reduced is None:
        return
    if node.op in SUMMING and (node.op != MEAN or node.opset >= scaled_statistics.MASKABLE):
        yield from (Free(x.at(axis)) for axis in reduced if x.size(axis) is not None)
    if node.op in AVERAGING:
        for axis in reduced:
            yield from inexact(f"what {node.op} averages", same(x, axis, x, axis))
    keep = [axis for axis in range(x.rank) if axis not in reduced]
    keepdims = node.attrs.get("keepdims", 1)
    for j, i in enumerate(keep):
        yield from same(x, i, y, i if keepdims else j)


@sums(*SUMMING)
def summed(node: Node) -> Iterator[tuple[int, int]]:
    """The reduced axes."""
    x = node.inputs[0]
    if x is not None and not x.constant and not node.centres:
        yield from ((0, axis) for axis in sorted(_reduced(node) or ()))


@centres(MEAN)
def subtracted(node: Node) -> Iterator[tuple[int, int]]:
    """The reduced axes of a mean that is only subtracted from its data."""
    if node.centres:
        yield from ((0, axis) for axis in sorted(_reduced(node) or ()))


@shrinks(MEAN)
def shrink_mean(node: Node, kept: Kept) -> Edit:
    """The sum over fewer positions, divided by the width before."""
    x, reduced = node.inputs[0], _reduced(node)
    if x is None or reduced is None or node.centres:
        return Edit()
    left = math.prod(scaled_statistics.share(kept, x, axis) for axis in reduced)
    return Edit() if left == 1 else Edit(results_times={0: left})


@couples("ArgMax", "ArgMin")
def arg(node: Node) -> Iterator[Coupling]:
    """One axis is searched."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None:
        return
    axis = node.attrs.get("axis", 0) % max(x.rank, 1)
    keepdims = node.attrs.get("keepdims", 1)
    for i in (i for i in range(x.rank) if i != axis):
        yield from same(x, i, y, i if keepdims or i < axis else i - 1)


@couples("TopK")
def top_k(node: Node) -> Iterator[Coupling]:
    """One axis is sorted."""
    for y in node.outputs:
        yield from same_but((node.attrs.get("axis", -1),), node.inputs[0], y)


@couples("Resize", "Upsample")
def resize(node: Node) -> Iterator[Coupling]:
    """An axis whose size stays is copied, unless it is scaled all the same or a region is cut."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None:
        return
    named = [int(axis) % x.rank for axis in node.attrs.get("axes") or range(x.rank)]
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        yield from same_but(named, x, y)
    else:
        yield from same_but((a for a, s in zip(named, _scales(node, x), strict=False) if s), x, y)


def _scales(node: Node, x: Tensor) -> list[bool]:
    """For each axis that is named, whether a scale other than 1 is or may be given for it."""
    given: Tensor | None = node.input(1 if node.op == "Upsample" or node.opset < 11 else 2)
    values = node.attrs.get("scales")
    if given is not None and given.size(0) != 0:
        if given.value is None or given.known is not None:
            return [True] * x.rank
        values = np.ravel(given.value).tolist()
    return [value != 1 for value in values or ()]


@shrinks("Resize")
def shrink_resize(node: Node, kept: Kept) -> Edit:
    """`sizes` names the widths; `scales` does not."""
    sizes, y = node.input(3), node.outputs[0]
    if sizes is None:
        return Edit()
    axes = node.attrs.get("axes") or range(y.rank)
    entries = zip(stored_entries(sizes, len(axes)), axes, strict=True)
    new = tuple(
        e if y.size(axis) in (None, len(kept(y, axis))) else len(kept(y, axis))
        for e, axis in entries
    )
    return Edit(inputs={3: new})


def _unless_padded(node: Node, axis: int, found: Floats, reached: NDArray[np.bool_]) -> Floats:
    """An average keeps a number unless zeros beside the data are counted in."""
    mixed = any(node.attrs.get("pads", ())) or node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
    mixed = mixed and bool(node.attrs.get("count_include_pad", 0))
    return zeros_of(found) if mixed else found


def _interpolated(node: Node, axis: int, found: Floats, reached: NDArray[np.bool_]) -> Floats:
    """Neighbours mixed with weights that add up to one; cubic ones overshoot at the border."""
    fits = node.attrs.get("mode", "nearest") in ("nearest", "linear")
    return found if fits else unknown(found)


jumps("ArgMax", "ArgMin", "TopK")
mark(FLAT, "ArgMax", "ArgMin")
mark(LARGEST, "ArgMax", "ArgMin")
mark(AVERAGES, MEAN)
state(POWERS, 1, MEAN, "ReduceSum")
state(POWERS, 2, "ReduceL2", "ReduceSumSquare")
state(LINEAR, True, "GlobalAveragePool", MEAN)
state(LINEAR, False, "ReduceSum")
mark(EQUIVARIANT, "GlobalMaxPool", "MaxPool", "Resize", "Upsample")
constant("GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Upsample")(followed())
constant("ReduceMax", "ReduceMean", "ReduceMin")(followed())
constant("AveragePool")(followed(_unless_padded))
constant("Resize")(followed(_interpolated))
moments("AveragePool", "GlobalAveragePool", "MaxPool")(kept)
moments("ReduceMean")(moved)
gradient("AveragePool")(pooling_gradient.average)
gradient("MaxPool")(pooling_gradient.maximum)
gradient("GlobalAveragePool", "ReduceMean", "ReduceSum")(pooling_gradient.mean)
gradient("GlobalLpPool")(pooling_gradient.global_power)
gradient("GlobalMaxPool")(pooling_gradient.global_maximum)
gradient("LpPool")(pooling_gradient.power)
gradient("Resize")(resizing_gradient.resize)
gradient("TopK")(indexing_gradient.largest)
gradient("ReduceL1")(reduction(lambda t, r: t.emit("Sign", r.x)))
gradient("ReduceL2")(reduction(lambda t, r: t.over(r.x, t.emit("Max", r.y, t.constant(1e-7)))))
gradient("ReduceLogSum")(reduction(lambda t, r: t.emit("Exp", t.emit("Neg", r.y))))
gradient("ReduceLogSumExp")(reduction(lambda t, r: t.emit("Exp", t.minus(r.x, r.y))))
gradient("ReduceMax", "ReduceMin")(reduction(lambda t, r: t.mask("Equal", r.x, r.y)))
gradient("ReduceSumSquare")(reduction(lambda t, r: t.scaled(r.x, 2.0)))
