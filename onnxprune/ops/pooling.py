"""Operators over space that leave channels alone: pools, reductions, resizing."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.ops.registry import couples, same, same_but, shrinks, stored_entries
from onnxprune.types import Coupling, Edit, Kept, Node

REDUCTIONS = """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
""".split()


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
def reduce(node: Node) -> Iterator[Coupling]:
    """The axes that are not reduced keep their order."""
    x, y, reduced = node.inputs[0], node.outputs[0], _reduced(node)
    if x is None or reduced is None:
        return
    keep = [axis for axis in range(x.rank) if axis not in reduced]
    keepdims = node.attrs.get("keepdims", 1)
    for j, i in enumerate(keep):
        yield from same(x, i, y, i if keepdims else j)


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
    """An axis whose size stays is copied, unless a region of interest is cut out."""
    if node.attrs.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        yield from same_but((), node.inputs[0], node.outputs[0])


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
