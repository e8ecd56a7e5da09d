"""Scale the result of a normalisation whose stream is cut back to the size that it had.

What is normalised has its squares summed. Where positions go that hold the share 1 - e of them, the
positions that stay come out larger by 1/sqrt(e): they are divided by less. γ takes sqrt(e), with e
measured on the samples, and layers behind see numbers of the size that they were made for. Where
the old width is divided out in another power p of the share (`widths_divided`), γ takes e^-p.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.batches import growths
from onnxprune.calibration.single_pass import Asked, single_pass
from onnxprune.calibration.workplace import Workplace
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import runtime
from onnxprune.surgery.widths_divided import Gamma, gamma, readers_of
from onnxprune.types import Axis, Floats, Node, Plan, Read

__all__ = ["Norm", "energies", "norms_of", "rescaled"]

#: What a node does before it adds up: nothing, squares, or subtracts the mean and squares.
Form: TypeAlias = Literal["summed", "squared", "centred"]


class Norm(NamedTuple):
    """A normalisation along a prunable axis.

    Attributes:
        summands: tensors whose sum is normalised, or that holds its squares.
        axis: of them, counted from the end.
        form: what becomes of them before they are added up.
        gamma: the stored tensor that takes the width, and its axis.
        power: in which power.
    """

    summands: tuple[str, ...]
    axis: int
    form: Form
    gamma: Axis
    power: float


def norms_of(analysis: Analysis) -> list[Norm]:
    """Find the normalisations along axes of groups, where a stored tensor takes their width."""
    axes = {axis for group in analysis.groups for axis, _ in group.axes()}
    ends = {value.name for value in analysis.model.graph.output}
    readers, found = readers_of(analysis.nodes), list[Norm]()
    for node in analysis.nodes:
        pairs = list(ops.statistics_of(node))
        own = gamma(node, readers, ends) if pairs else None
        if own is None:
            continue
        along = [own.tensor.at(k) for k in range(own.tensor.rank) if own.tensor.at(k) in axes]
        summands = [(node.inputs[index], axis) for index, axis in pairs]
        behind = {axis - t.rank for t, axis in summands if t is not None}
        if len(along) == len(behind) == 1:
            names = tuple(t.name for t, _ in summands if t is not None)
            found.append(Norm(names, behind.pop(), _form(node, own), along[0], own.power))
    return found


def _form(node: Node, own: Gamma) -> Form:
    if node.op in ops.CENTRES and any(ops.CENTRES[node.op](node)):
        return "centred"
    return "summed" if own.direct else "squared"


def energies(
    analysis: Analysis,
    norms: Sequence[Norm],
    batches: Sequence[runtime.Feeds],
    place: Workplace | None = None,
) -> dict[str, Floats]:
    """Measure which share of what is summed each position holds, in one pass.

    Args:
        analysis: the model.
        norms: of it.
        batches: feeds of each batch, which all count the same.
        place: where the model runs, None: on the processor.

    Returns:
        (d,) shares, which add up to one, by the name of γ.
    """
    if not norms:
        return {}
    asked = Asked({name for norm in norms for name in norm.summands}, growths(analysis.nodes))
    totals: dict[str, Any] = {}
    for _, values in single_pass(analysis.model, batches, asked, analysis.read, place):
        for norm in norms:
            x = _normalised(norm, values, analysis.read)
            if x is not None:
                name = norm.gamma.tensor
                totals[name] = totals.get(name, 0.0) + _shares(x, norm.form)
    return {name: total / max(float(total.sum()), 1e-30) for name, total in totals.items()}


def _normalised(
    norm: Norm, values: Mapping[str, NDArray[Any]], read: Read
) -> NDArray[np.float64] | None:
    """(m, d) rows of what is normalised; None where this part of the model does not make it."""
    parts = [values[name] if name in values else read(name) for name in norm.summands]
    if not any(name in values for name in norm.summands) or any(p is None for p in parts):
        return None
    total = sum(np.asarray(part, np.float64) for part in parts if part is not None)
    moved = np.moveaxis(np.asarray(total), norm.axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def _shares(x: NDArray[np.float64], form: Form) -> Floats:
    """(d,) mean share of each position in what is summed over a row."""
    if form == "centred":
        x = x - x.mean(-1, keepdims=True)
    squares = x if form == "summed" else np.square(x)
    whole = squares.sum(-1, keepdims=True)
    good = np.isfinite(whole[:, 0]) & (whole[:, 0] > 0)
    shares: Floats = (squares[good] / whole[good]).mean(0) if good.any() else np.zeros(x.shape[-1])
    return shares


def rescaled(
    norms: Sequence[Norm], shares: Mapping[str, Floats], plan: Plan, read: Read
) -> dict[str, NDArray[Any]]:
    """Give γ the size at which results keep theirs.

    Args:
        norms: of the model.
        shares: what `energies` gave.
        plan: what goes.
        read: the content of stored tensors as it is now.

    Returns:
        New content of stored tensors by name.
    """
    found: dict[str, NDArray[Any]] = {}
    for norm in norms:
        kept, own = plan.keep.get(norm.gamma), shares.get(norm.gamma.tensor)
        values = read(norm.gamma.tensor)
        if kept is None or own is None or values is None or norm.gamma.tensor in found:
            continue
        left = float(own[kept].sum())
        if 0 < left < 1:
            found[norm.gamma.tensor] = (values * left**-norm.power).astype(values.dtype)
    return found
