"""If, Loop and Scan: what goes through their bodies.

The operators inside have rules of their own; here the ends are tied together. A position
lives or dies on every path at once: in both branches, and in all rounds of a loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from onnxprune.ops.registry import couples, free, same
from onnxprune.types import Coupling, Fact, Node, Tensor


@couples("If")
def branches(node: Node) -> Iterable[Fact]:
    """A result is what a branch returns.

    Where the condition is always the same, only one branch counts: the other may return
    something of another shape, which nobody sees.
    """
    condition = node.input(0)
    always = condition.ints() if condition is not None else None
    sure = ("then_branch" if always[0] else "else_branch") if always else None
    for k, y in enumerate(node.outputs):
        returned = {body.name: body.outputs[k] for body in node.bodies}
        seen = [made for name, made in returned.items() if sure in (None, name)]
        for axis in range(y.rank):
            if _alike((*seen, y), axis):
                for made in returned.values():
                    yield from same(made, axis, y, axis) if _alike((made, y), axis) else ()
        for made in (made for name, made in returned.items() if sure not in (None, name)):
            yield from (fact for fact in free(made) if not _alike((made, y), fact.axis.axis))


def undecided(nodes: Iterable[Node]) -> set[str]:
    """Conditions that depend on the data: either branch may come."""
    conditions = (node.inputs[0] for node in nodes if node.op == "If")
    return {c.name for c in conditions if c is not None and c.ints() is None}


@couples("Loop")
def loop(node: Node) -> Iterable[Fact]:
    """Carried values keep their positions from round to round; collected ones get an axis more."""
    (body,) = node.bodies
    n = len(node.inputs) - 2
    yield from _carried(node.inputs[2:], body.inputs[2:], body.outputs[1:], node.outputs)
    for made, y in zip(body.outputs[1 + n :], node.outputs[n:], strict=False):
        yield from _row(made, y, 0)


@couples("Scan")
def scan(node: Node) -> Iterable[Fact]:
    """Like Loop; each round also gets one row of every scanned input."""
    if node.opset < 9:  # an axis for batches, and lengths
        return
    (body,) = node.bodies
    n = len(node.inputs) - node.attrs["num_scan_inputs"]
    yield from _carried(node.inputs[:n], body.inputs, body.outputs, node.outputs)
    pairs = zip(body.inputs[n:], node.inputs[n:], strict=True)
    axes = node.attrs.get("scan_input_axes") or [0] * len(node.inputs)
    for (row, x), axis in zip(pairs, axes, strict=False):
        yield from _row(row, x, axis)
    axes = node.attrs.get("scan_output_axes") or [0] * len(node.outputs)
    for row, y, axis in zip(body.outputs[n:], node.outputs[n:], axes, strict=False):
        yield from _row(row, y, axis)


def _carried(*columns: Sequence[Tensor | None]) -> Iterator[Coupling]:
    """Start, inside, returned and result are one, on every axis that has one size in all."""
    for row in zip(*columns, strict=False):
        first, *others = row
        if first is None:
            continue
        for axis in range(first.rank):
            if _alike(row, axis):
                for other in others:
                    yield from same(first, axis, other, axis)


def _row(row: Tensor, whole: Tensor | None, axis: int) -> Iterator[Coupling]:
    """`row` is one position on `axis` of `whole`; its other axes are the same."""
    if whole is None or row.rank + 1 != whole.rank:
        return
    for k in range(row.rank):
        yield from same(row, k, whole, k + (k >= axis % whole.rank))


def _alike(tensors: Sequence[Tensor | None], axis: int) -> bool:
    """Whether all have the same rank and the same static size of `axis`."""
    sizes = {(t.rank, t.size(axis)) for t in tensors if t is not None}
    return len(sizes) == 1 and None not in sizes.pop()
