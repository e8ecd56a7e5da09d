"""One cut of one model: rewrite, prove, and on failure name the group that is to blame."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxprune import ops
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.group_divergence import GroupDivergence
from onnxprune.groups.reach import Reach
from onnxprune.groups.turning import Rotation
from onnxprune.ir import external_data, graph
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.input_sizes import FoundShapes
from onnxprune.ir.patch import patch
from onnxprune.settings import CalibrationSettings, InputSettings, RunSettings
from onnxprune.surgery import lossless
from onnxprune.surgery.blame import blamed, unequal
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import Outputs, Proof, ProofRun, compare, masks_of
from onnxprune.surgery.prove_cut import FirstRun, Original, prove_cut, prove_equal
from onnxprune.surgery.remove_blocks import gone_blocks, without
from onnxprune.surgery.rewrite import rewrite
from onnxprune.types import Floats, Masks, Plan

__all__ = ["Stage", "cut", "cut_lossless", "equal", "narrowed", "running"]

#: Below this many MACs the proof runs two samples where the batch may vary, else one.
CHEAP = 2e9


@dataclass(frozen=True)
class Stage:
    """A smaller model with its proof, and what was cut to get it.

    Attributes:
        analysis: the model that was cut.
        kept: (n_channels,) which channels of every group stay.
        plan: the positions that stay.
        model: the smaller model.
        proof: that it is the original with channels removed.
        inputs: what both were fed, seeded unless that gives NaN.
        original: outputs of the model that was cut, on them.
        pruned: outputs of the smaller one.
        spared: names of groups that failed the proof and stay whole.
        notes: what calibration did before.
        told: what the report says where another stage follows.
        counted: (4,) what `model` costs, where it was counted anew.
        reach: what calibration reached of the model, None without.
        convolved: names of tensors that convolutions pick in place of slices and pads.
        rotations: streams that were turned, and how.
        as_given: whether `original` are outputs of the model with the weights it was given with.
        divergences: how the outputs answer to the width of each group, where that was measured.
    """

    analysis: Analysis
    kept: Masks
    plan: Plan
    model: ModelProto
    proof: Proof
    inputs: feeding.Feeds
    original: Outputs
    pruned: Outputs
    spared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    told: str = ""
    counted: Floats | None = None
    reach: Reach | None = None
    convolved: tuple[str, ...] = ()
    rotations: tuple[Rotation, ...] = ()
    as_given: bool = True
    divergences: Sequence[GroupDivergence] = ()


@contextmanager
def running(
    analysis: Analysis, options: InputSettings, fed: Collection[str] = ()
) -> Iterator[Original]:
    """Run the original in the background while the work on the pruned model begins.

    `fed` are stored tensors, beside those that are cut, that later runs have with other content.
    """
    seeded, samples = _inputs(analysis, options), _samples(options)
    axes = {axis for group in analysis.groups for axis, _ in group.axes()}
    changing = {axis.tensor for axis in axes}.union(fed)
    run = ProofRun(analysis.model, analysis.read, changing, masks_of(analysis.nodes, axes))
    with ThreadPoolExecutor(1) as pool:
        yield Original(run, pool.submit(_first_run, run, seeded, samples))


def _first_run(run: ProofRun, seeded: feeding.Feeds, samples: feeding.Feeds | None) -> FirstRun:
    """The original on seeded inputs, or where it gives NaN there on samples of the user's."""
    outputs = run.run(seeded)
    if samples is None or compare(outputs, outputs).passed:
        return FirstRun(seeded, outputs)
    told = "the first samples, as seeded inputs give NaN"
    return FirstRun(samples, run.run(samples), told)


def cut(analysis: Analysis, kept: Masks, options: RunSettings, original: Original) -> Stage:
    """Remove the channels that are not `kept` (n_channels,) and prove it.

    Raises:
        ProofError: the result does not compute what the masked original does.
    """
    options.progress("cutting", 0.4)
    plan = plan_of(analysis.groups, kept)
    with external_data.attempt(options.folder, keep=True) as folder:
        model = narrowed(analysis, kept, folder)
        options.progress("proving", 0.5)
        try:
            smaller = ProofRun(model)
            pruned = smaller.run(original.inputs)
        except InputError as error:
            original.outputs  # noqa: B018  if that fails too the input is to blame
            failed = Proof(np.inf, False, str(error))
            raise _blamed(analysis, kept, failed, original, folder) from error
        before = original.outputs
        proof = prove_cut(analysis, plan, original, smaller, pruned)
        if not proof.passed:
            raise _blamed(analysis, kept, proof, original, folder)
    proof = replace(proof, inputs=original.fed)
    return Stage(analysis, kept, plan, model, proof, original.inputs, before, pruned)


def narrowed(analysis: Analysis, kept: Masks, scratch: Path | None) -> ModelProto:
    """The model without what is not kept; a block that goes is first left whole."""
    left = [mask if mask.any() else np.ones_like(mask) for mask in kept]
    plan = plan_of(analysis.groups, left)
    model = rewrite(analysis.model, analysis.nodes, plan, analysis.read, scratch)
    blocks = gone_blocks(analysis, kept)
    for g, mask in enumerate(kept):
        if not mask.any() and not any(g in block.inside for block in blocks):
            raise InputError(f"group '{analysis.groups[g].name}' must keep a channel")
    return without(model, blocks) if blocks else model


def cut_lossless(analysis: Analysis, options: CalibrationSettings, original: Original) -> Stage:
    """Remove what contributes nothing; the proof is equality with the original itself.

    Where a model rounds, its pieces are equal from one rounding to the next.

    Raises:
        ProofError: the result does not compute what the original does.
    """
    options.progress("searching", 0.2)
    dead = lossless.find(analysis, options.compensate)
    plan = plan_of(analysis.groups, dead.kept)
    patched = patch(analysis.model, dead.patches, options.folder)
    model = rewrite(patched, analysis.nodes, plan, scratch=options.folder)
    options.progress("proving", 0.5)
    proof, after = equal(analysis, model, original, plan)
    if not proof.passed or not proof.max_relative_error <= lossless.TOLERANCE:
        raise unequal(proof, original.outputs)
    gone = sum(int((~mask).sum()) for mask in dead.kept)
    told = (
        f"first {gone} channels went without loss; that model equals the {proof.reference}, "
        f"relative error {proof.max_relative_error:.1e}"
    )
    before = original.outputs
    return Stage(analysis, dead.kept, plan, model, proof, original.inputs, before, after, told=told)


def equal(
    analysis: Analysis, model: ModelProto, original: Original, plan: Plan | None = None
) -> tuple[Proof, Outputs]:
    """How far a model is from the original itself on the same inputs, and what it gives there.

    With a `plan` that cut it, models that round are compared between their roundings.
    """
    other = ProofRun(model)
    outputs = other.run(original.inputs)
    proof = prove_equal(analysis, plan, original, other, outputs)
    return replace(proof, inputs=original.fed), outputs


def _inputs(analysis: Analysis, options: InputSettings) -> feeding.Feeds:
    """Seeded inputs: two samples where every input's first axis may vary and it costs little."""
    sample = dict(analysis.sample)
    sizes = [graph.declared_sizes(value) for value in graph.graph_inputs(analysis.model)]
    free = all(size and size[0] is None for size in sizes)
    stated = options.input_shapes and not isinstance(options.input_shapes, FoundShapes)
    if free and not stated and analysis.cost.full[0] < CHEAP:
        sample = {name: (2, *shape[1:]) for name, shape in sample.items()}
    return feeding.seeded(analysis.model, ops.index_bounds(analysis.nodes), sample, options.seed)


def _samples(options: InputSettings) -> feeding.Feeds | None:
    """Samples of the user's, if there are any."""
    shapes = options.input_shapes
    return shapes.feeds if isinstance(shapes, FoundShapes) else None


def _blamed(
    analysis: Analysis, kept: Masks, proof: Proof, original: Original, scratch: Path | None
) -> ProofError:
    """The error of a failed proof, which names the guilty group."""

    def passes(only: Masks) -> bool:
        plan = plan_of(analysis.groups, only)
        with external_data.attempt(scratch, keep=False) as folder:
            model = narrowed(analysis, only, folder)
            try:
                smaller = ProofRun(model)
                outputs = smaller.run(original.inputs)
                return prove_cut(analysis, plan, original, smaller, outputs).passed
            except InputError:
                return False

    return blamed(analysis, kept, replace(proof, inputs=original.fed), original.outputs, passes)
