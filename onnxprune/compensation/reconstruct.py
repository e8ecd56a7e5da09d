"""Cut a model to given widths while every layer behind a cut is refitted to the original's values.

Two models run side by side through the graph, the original and the one pruned so far. At each layer
the channels to keep are selected on what the pruned model feeds it, and its weight and bias become
the least-squares answer to the original's values (see `layer_targets`), so that errors do not
accumulate along the depth. Start reading at `compensate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.batches import growths
from onnxprune.compensation import query_key
from onnxprune.compensation.block_biases import with_biases
from onnxprune.compensation.block_successors import Successors, block_successors
from onnxprune.compensation.layer_targets import LayerTarget
from onnxprune.compensation.least_squares import (
    RIDGE,
    DepthwiseMoments,
    LayerMoments,
    fit_dense,
    fit_depthwise,
)
from onnxprune.compensation.masked_student import masked_student
from onnxprune.compensation.normalised_energy import energies, norms_of, rescaled
from onnxprune.compensation.obs import eliminate, refit, shrinkage
from onnxprune.compensation.paired_run import PairedRun, refusal
from onnxprune.compensation.relu_least_squares import Answer, ReluRows, improve
from onnxprune.compensation.taps import ranking_problem
from onnxprune.compensation.teacher import Teacher
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.head_units import order_of, reordered
from onnxprune.groups.layers import Layer
from onnxprune.groups.readers import GroupReaders
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.remove_blocks import gone_blocks
from onnxprune.surgery.rewrite import masked_weights
from onnxprune.types import Axis, Floats, Group, Ints, Plan

__all__ = ["Compensated", "compensate"]

#: Layers with more inputs than this are fitted as if no Relu followed: rows take too much memory.
WIDEST = 2304
#: Inputs of a layer up to which its channels are ranked by all of them, not one for each channel.
EXACT = 1152
Array = NDArray[Any]
Masks = Sequence[NDArray[np.bool_]]


@dataclass(frozen=True)
class Compensated:
    """A refitted model, before it is cut.

    Attributes:
        groups: as they are to be cut.
        kept: (n_channels,) which channels of each group stay.
        patches: new content of stored tensors.
        refitted: results of the layers that were refitted.
        failed: by the result of a layer why it could not be.
    """

    groups: list[Group]
    kept: list[NDArray[np.bool_]]
    patches: dict[str, Array]
    refitted: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Selection:
    """Groups and (n_channels,) masks of the channels that stay."""

    groups: tuple[Group, ...]
    kept: tuple[NDArray[np.bool_], ...]

    def plan(self, numbers: Sequence[int]) -> Plan:
        """The plan that cuts these groups alone."""
        return plan_of([self.groups[g] for g in numbers], [self.kept[g] for g in numbers])

    def with_group(self, g: int, group: Group, mask: NDArray[np.bool_]) -> _Selection:
        """The selection with one group replaced."""
        groups, kept = list(self.groups), list(self.kept)
        groups[g], kept[g] = group, mask
        return _Selection(tuple(groups), tuple(kept))


@dataclass(frozen=True)
class _Context:
    """What stays the same from layer to layer.

    Attributes:
        shapes: of stored tensors.
        readers: which layers read each group.
        selectable: groups whose channels are selected where the one layer that reads them runs.
        dead: positions that are zero from the beginning, by axis.
        mixing: by result of a layer, what that is multiplied with (o, o): queries and keys.
        successors: what takes the place of residual blocks that go.
    """

    shapes: Mapping[str, tuple[int, ...]]
    readers: Sequence[GroupReaders]
    selectable: frozenset[int]
    dead: Mapping[Axis, Ints]
    mixing: Mapping[str, Floats]
    successors: Successors

    def selects(self, layer: Layer, g: int) -> bool:
        """Whether the channels of group `g` are selected at a layer."""
        return g in self.selectable and self.readers[g].layers[0] is layer


def compensate(
    analysis: Analysis,
    kept: Masks,
    teacher: Teacher,
    progress: Callable[[float], None] = lambda share: None,
    grams: Callable[[], query_key.Grams] | None = None,
) -> Compensated:
    """Refit a model to channels that go.

    Args:
        analysis: the model, with groups as they are to be cut.
        kept: (n_channels,) of each group, how many channels stay. Which ones is selected anew where
            one layer alone reads the group.
        teacher: gives the values that layers should give.
        progress: called with the share done.
        grams: gives second moments of queries and keys, None: they are measured here.
    """
    layers, readers = analysis.refittable, analysis.readers
    successors = block_successors(analysis, gone_blocks(analysis, kept))
    successors = with_biases(successors, teacher, growths(analysis.nodes))
    teacher = replace(teacher, successors=successors)
    pairs = query_key.pairs_of(analysis, layers)
    selection = _Selection(tuple(analysis.groups), tuple(kept))
    cut = [g for g, mask in enumerate(kept) if not mask.all()]
    hidden = [g for g in cut if not readers[g].complete]
    paired = {g: pairs[g] for g in hidden if g in pairs}
    if grams is None:
        data = teacher.data
        grams = partial(query_key.grams, analysis, paired, data.batches, data.place)
    patches, mixing = _remove_hidden(analysis, selection, hidden, paired, grams)
    plan = selection.plan(hidden)
    patches |= _rescaled(analysis, plan, teacher, patches)
    context = _Context(
        analysis.stored,
        readers,
        _selectable(analysis, readers),
        {axis: plan.dead(axis) for axis in plan.keep if axis not in plan.nominal},
        mixing,
        successors,
    )
    mixed = {side.result for pair in pairs.values() for side in pair.sides}
    student, living = masked_student(analysis, plan)
    run = PairedRun(student, teacher, layers, patches | living, mixed)
    own = {layer.weight.name for g in cut if readers[g].complete for layer in readers[g].layers}
    numbers = run.changed(own)
    result = _refitted(run, numbers, context, selection, progress)
    made = {name: new for name, new in result.patches.items() if name not in living}
    return replace(result, patches=made)


def _refitted(
    run: PairedRun,
    numbers: Sequence[int],
    context: _Context,
    selection: _Selection,
    progress: Callable[[float], None],
) -> Compensated:
    """Fit layers of these numbers one after the other; one that fails keeps its weights."""
    run.look_at(numbers)
    refitted, failed, fitted = set[str](), dict[str, str](), set[str]()
    for done, k in enumerate(numbers):
        layer, result = run.layers[k], _result(run.layers[k])
        if context.successors.replaces(result, fitted):
            run.silence(layer)
            fitted.add(run.targets[k].tensor)  # what stands for this block stands for its sum
            continue
        run.advance(k)
        try:
            selection, answer = _fitted(run, k, context, selection)
        except Exception as error:  # costs this layer alone, which is named in the report
            failed[result] = refusal(error)
            continue
        if _store(run, layer, answer, context.dead):
            refitted.add(result)
            fitted.add(run.targets[k].tensor)
        progress((done + 1) / len(numbers))
    kept, names = list(selection.kept), frozenset(refitted)
    return Compensated(list(selection.groups), kept, run.patches, names, failed)


def _result(layer: Layer) -> str:
    return layer.node.outputs[0].name


def _selectable(analysis: Analysis, readers: Sequence[GroupReaders]) -> frozenset[int]:
    """Groups that one layer alone reads, and that no other group crosses."""
    crossed = set(analysis.cost.crossings[:2].ravel().tolist())
    return frozenset(
        g
        for g, own in enumerate(readers)
        if own.complete and len(own.layers) == 1 and g not in crossed
    )


def _remove_hidden(
    analysis: Analysis,
    selection: _Selection,
    hidden: Sequence[int],
    pairs: Mapping[int, query_key.Pair],
    grams: Callable[[], query_key.Grams],
) -> tuple[dict[str, Array], dict[str, Floats]]:
    """Zero the channels of groups that others than layers read; mix queries and keys.

    Returns:
        New content of stored tensors, and what results of layers are multiplied with (o, o).
    """
    plan = selection.plan([g for g in hidden if g not in pairs])
    patches = masked_weights(analysis.read, analysis.nodes, plan)
    mixing: dict[str, Floats] = {}

    def read(name: str) -> Array | None:
        return patches[name] if name in patches else analysis.read(name)

    moments = grams() if pairs else {}
    for g, pair in pairs.items():
        for side, matrix in query_key.mixing_matrices(pair, moments[g], selection.kept[g]):
            patches |= query_key.mixed_weights(side, matrix, read)
            name = side.layer.node.outputs[0].name
            mixing[name] = mixing.get(name, np.eye(len(matrix))) @ matrix
    return patches, mixing


def _rescaled(
    analysis: Analysis, plan: Plan, teacher: Teacher, patches: Mapping[str, Array]
) -> dict[str, Array]:
    """Scale normalisations along axes that are cut back to the size of their results."""
    norms = [norm for norm in norms_of(analysis) if norm.gamma in plan.keep]
    shares = energies(analysis, norms, teacher.data.batches, teacher.data.place)

    def read(name: str) -> Array | None:
        return patches[name] if name in patches else analysis.read(name)

    return rescaled(norms, shares, plan, read)


def _fitted(
    run: PairedRun, k: int, context: _Context, selection: _Selection
) -> tuple[_Selection, Answer]:
    """Fit layer number `k`, and select anew the channels of the groups that it alone reads."""
    layer = run.layers[k]
    mixing = context.mixing.get(layer.node.outputs[0].name)
    if layer.depthwise:
        weight = layer.matrix(run.stored(layer))
        depthwise = DepthwiseMoments(*weight.shape)
        for rows in run.rows(k, mixing):
            depthwise.add(rows.inputs, rows.target)
        answer = Answer(*fit_depthwise(depthwise, weight))
    else:
        selection, answer = _fitted_dense(run, k, context, selection)
    if not (np.isfinite(answer.weight).all() and np.isfinite(answer.bias).all()):
        raise ArithmeticError("its least squares have no finite solution")
    return selection, answer


def _fitted_dense(
    run: PairedRun, k: int, context: _Context, selection: _Selection
) -> tuple[_Selection, Answer]:
    """Fit a layer whose inputs are fitted together; those that are gone already are left out."""
    layer = run.layers[k]
    seen = _Seen(layer, context.shapes[layer.weight.name], _left(context, selection, layer, True))
    whole = layer.matrix(run.stored(layer))
    weight = whole[seen.columns]
    moments, behind = LayerMoments(), _relu_rows(run, run.targets[k], weight)
    for rows in run.rows(k, context.mixing.get(layer.node.outputs[0].name), seen.channels):
        moments.add(rows.inputs, rows.target)
        if behind is not None:
            behind.add(*rows)
    selection = _select(context, selection, seen, moments, weight)
    kept = seen.inputs(_left(context, selection, layer, False))
    answer = Answer(*fit_dense(moments, weight, kept))
    if behind is not None:
        answer = improve(answer, behind, kept, moments.fit.statistics())
    fitted = np.zeros_like(whole)
    fitted[seen.columns] = answer.weight
    return selection, answer._replace(weight=fitted)


def _relu_rows(run: PairedRun, target: LayerTarget, weight: Floats) -> ReluRows | None:
    """Where to collect the rows of a layer that a Relu follows; None for other layers."""
    if not target.clipped or len(weight) > WIDEST:
        return None
    sign = np.ones(weight.shape[1]) if target.scale is None else np.sign(target.scale)
    return ReluRows(sign, run.batches)


class _Seen:
    """What is looked at of the inputs of a layer.

    Attributes:
        layer: which.
        taps: inputs that hold the same channel.
        channels: (n,) of its data.
        columns: (taps · n,) the inputs that hold them.
    """

    def __init__(self, layer: Layer, shape: tuple[int, ...], channels: Ints) -> None:
        self.layer, self.taps, self._shape = layer, layer.taps(shape), shape
        self.channels = channels
        self.columns = layer.columns(channels[:, None], shape).T.ravel()

    def inputs(self, channels: Ints) -> Ints:
        """Which of `columns`, by number, hold some of the channels."""
        return np.flatnonzero(np.tile(np.isin(self.channels, channels), self.taps))


def _left(context: _Context, selection: _Selection, layer: Layer, open_too: bool) -> Ints:
    """(n,) channels of a layer's data that stay.

    `open_too`: those among which the layer is yet to select are all there.
    """
    axis = layer.data.at(layer.kernel.channel)
    shape = context.shapes[layer.weight.name]
    assert layer.kernel.in_axis is not None
    alive = np.ones(shape[layer.kernel.in_axis], bool)
    for g, mask in enumerate(selection.kept):
        if not mask.all() and not (open_too and context.selects(layer, g)):
            at = dict(selection.groups[g].axes()).get(axis)
            if at is not None:
                alive[at[~mask].ravel()] = False
    return np.flatnonzero(alive if alive.any() or not open_too else ~alive)


def _select(
    context: _Context, selection: _Selection, seen: _Seen, moments: LayerMoments, weight: Floats
) -> _Selection:
    """Select channels of the groups that a layer alone reads.

    Args:
        context: tells which groups those are.
        selection: the channels that stay so far.
        seen: the layer, and which of its inputs the rest is about.
        moments: of these inputs and the targets.
        weight: (n, o) the old one.
    """
    for g, own in enumerate(context.readers):
        if not selection.kept[g].all() and context.selects(seen.layer, g):
            width = int(selection.kept[g].sum())
            selection = selection.with_group(g, *_best_channels(own, width, seen, moments, weight))
    return selection


def _best_channels(
    own: GroupReaders, width: int, seen: _Seen, moments: LayerMoments, weight: Floats
) -> tuple[Group, NDArray[np.bool_]]:
    """Keep the `width` channels whose removal costs most on what arrives at the layer now.

    Returns:
        The group as it is to be cut, and a mask (n_channels,).
    """
    statistics = moments.fit.statistics()
    ridge = shrinkage(statistics, RIDGE)
    best = refit(statistics, weight, np.arange(len(weight)), ridge)
    columns = np.searchsorted(seen.columns, own.columns[0])
    problem = ranking_problem(statistics, best, columns, seen.taps, EXACT)
    problem = replace(problem, unit=1.0)
    group = own.group
    units, _ = eliminate([problem], width if group.heads == 1 else 0)
    mask = np.zeros(group.channels, bool)
    if group.heads > 1:  # each head has its own best channels: these become the first
        mask[:width] = True
        return reordered(group, order_of(units, group)), mask
    mask[units[::-1][:width]] = True
    return group, mask


def _store(run: PairedRun, layer: Layer, answer: Answer, dead: Mapping[Axis, Ints]) -> bool:
    """Change a layer's weight and bias, if it has one; dead results stay zero."""
    weight, bias = layer.stored(answer.weight, run.stored(layer)), answer.bias.copy()
    gone = dead.get(layer.weight.at(layer.kernel.out_axis), ())
    if len(gone):
        np.moveaxis(weight, layer.kernel.out_axis, 0)[gone] = 0
        bias[gone] = 0
    return run.store(layer, weight, bias)
