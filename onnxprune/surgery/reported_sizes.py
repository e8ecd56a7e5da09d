"""Sizes that must go on being reported as they were, and those that nobody asks for.

What is computed from a shape stays as it was, so the entries of a shape that are cut are written
over. Where a graph only picks entries that stay, nothing has to be. A shape that is known as a
whole is stored in place of the operator that gives it, whoever reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from onnxprune import ops
from onnxprune.ir.edit import NodeEdit
from onnxprune.surgery.widths_divided import Readers
from onnxprune.types import Edit, Ints, Node

__all__ = ["asked_for"]


def asked_for(
    edits: Iterable[NodeEdit],
    readers: Readers,
    kept: Mapping[str, Mapping[int, Ints]],
    ends: Collection[str],
) -> list[NodeEdit]:
    """Leave out entries of shapes that nobody reads.

    Args:
        edits: of a cut.
        readers: who reads each tensor.
        kept: positions that stay of each axis that is cut, by tensor.
        ends: names of the model's outputs.
    """
    found = list[NodeEdit]()
    for own in edits:
        edit = own.edit
        if edit.outputs and not _asked(own.node, readers, kept, ends):
            edit = replace(edit, outputs={})
        if edit != Edit():
            found.append(NodeEdit(own.node, edit))
    return found


def _asked(
    node: Node, readers: Readers, kept: Mapping[str, Mapping[int, Ints]], ends: Collection[str]
) -> bool:
    """Whether somebody reads an entry of a shape that is cut, as far as that is known."""
    x, y = node.inputs[0], node.outputs[0]
    known = None not in (y.ints() or (None,))
    if node.op not in ops.SIZES or x is None or y.size(0) is None or y.name in ends or known:
        return True
    first = int(node.attrs.get("start", 0)) % max(x.rank, 1)
    cut = {axis - first for axis in kept.get(x.name, {})}
    return any(
        _picks(reader, index, y.size(0) or 1, cut) for reader, index in readers.get(y.name, ())
    )


def _picks(reader: Node, index: int, size: int, entries: Collection[int]) -> bool:
    """Whether a reader looks at some entries of a shape; others than look-ups may."""
    table = ops.LOOKUPS.get(reader.op)
    numbers = reader.input(table) if table is not None and index == 0 else None
    picked = numbers.ints() if numbers is not None else None
    if picked is None or None in picked:
        return True
    return any(number is not None and number % size in entries for number in picked)
