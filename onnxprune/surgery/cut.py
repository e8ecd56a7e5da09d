"""One cut of one model: rewrite, prove, and on failure name the group that is to blame."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import external_data, graph
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.settings import Settings
from onnxprune.surgery import lossless
from onnxprune.surgery import rewrite as rewrite_module
from onnxprune.surgery.branch_proof import paths
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import Outputs, Proof, ProofRun, compare, detours_of, masks_of, prove
from onnxprune.surgery.remove_blocks import gone_blocks, without
from onnxprune.surgery.rewrite import rewrite
from onnxprune.surgery.rounding_proof import prove_between
from onnxprune.types import Plan

__all__ = ["Masks", "Original", "Stage", "cut", "cut_lossless", "equal", "narrowed", "running"]

Masks: TypeAlias = list[NDArray[np.bool_]]
#: Below this many MACs the proof runs two samples where the batch may vary, else one.
CHEAP = 2e9


@dataclass(frozen=True)
class Original:
    """The original opened for the proof, seeded inputs, and what it makes of them."""

    bench: ProofRun
    inputs: feeding.Feeds
    outputs: Future[Outputs]


@dataclass(frozen=True)
class Stage:
    """A survey, which channels of its groups stay, and the smaller model with its proof.

    `original` and `pruned` are the outputs of both models on `inputs`; `spared` says which groups
    failed the proof and stay whole, `notes` what calibration did before, `told` what the report
    says where another stage follows.
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


@contextmanager
def running(analysis: Analysis, options: Settings) -> Iterator[Original]:
    """Run the original in the background while the work on the pruned model begins."""
    inputs = _inputs(analysis, options)
    axes = {axis for group in analysis.groups for axis, _ in group.axes()}
    prunable = {axis.tensor for axis in axes}
    bench = ProofRun(analysis.model, analysis.read, prunable, masks_of(analysis.nodes, axes))
    with ThreadPoolExecutor(1) as pool:
        yield Original(bench, inputs, pool.submit(bench.run, inputs))


def cut(analysis: Analysis, kept: Masks, options: Settings, original: Original) -> Stage:
    """Remove the channels that are not `kept` (n_channels,) and prove it.

    Raises:
        ProofError: the result does not compute what the masked original does.
    """
    with external_data.attempt(options.folder, keep=True) as folder:
        return _cut(analysis, kept, replace(options, scratch=folder), original)


def _cut(analysis: Analysis, kept: Masks, options: Settings, original: Original) -> Stage:
    options.progress("cutting", 0.4)
    plan = plan_of(analysis.groups, kept)
    model = narrowed(analysis, kept, options)
    options.progress("proving", 0.5)
    inputs = original.inputs
    try:
        smaller = ProofRun(model)
        pruned = smaller.run(inputs)
    except InputError as error:
        original.outputs.result()  # if that fails too the input is to blame
        failed = Proof(np.inf, False, str(error))
        raise _guilty(analysis, kept, failed, (original, options)) from error
    before = original.outputs.result()
    proof = _proof(analysis, plan, original, smaller, pruned)
    if not proof.passed:
        raise _guilty(analysis, kept, proof, (original, options))
    return Stage(analysis, kept, plan, model, proof, inputs, before, pruned)


def narrowed(
    analysis: Analysis, kept: Sequence[NDArray[np.bool_]], options: Settings
) -> ModelProto:
    """The model without what is not kept; a block that goes is first left whole."""
    left = [mask if mask.any() else np.ones_like(mask) for mask in kept]
    model = rewrite(
        analysis.model,
        analysis.nodes,
        plan_of(analysis.groups, left),
        analysis.read,
        options.folder,
    )
    blocks = gone_blocks(analysis, kept)
    for g, mask in enumerate(kept):
        if not mask.any() and not any(g in block.inside for block in blocks):
            raise InputError(f"group '{analysis.groups[g].name}' must keep a channel")
    return without(model, blocks) if blocks else model


def cut_lossless(analysis: Analysis, options: Settings, original: Original) -> Stage:
    """Remove what contributes nothing; the proof is equality with the original itself.

    Raises:
        ProofError: the result does not compute what the original does.
    """
    options.progress("searching", 0.2)
    dead = lossless.find(analysis, options.compensate)
    plan = plan_of(analysis.groups, dead.kept)
    patched = rewrite_module.patch(analysis.model, dead.patches, options.folder)
    model = rewrite(patched, analysis.nodes, plan, scratch=options.folder)
    options.progress("proving", 0.5)
    proof, after = equal(analysis, model, original)
    if not proof.passed or not proof.max_relative_error <= lossless.TOLERANCE:
        raise ProofError(
            f"lossless removal changed output '{proof.output}' by {proof.max_relative_error:.2g}; "
            "nothing was written. Report the model."
        )
    gone = sum(int((~mask).sum()) for mask in dead.kept)
    told = (
        f"first {gone} channels went without loss; that model equals the original, relative error "
        f"{proof.max_relative_error:.1e}"
    )
    before = original.outputs.result()
    return Stage(analysis, dead.kept, plan, model, proof, original.inputs, before, after, told=told)


def equal(analysis: Analysis, model: ModelProto, original: Original) -> tuple[Proof, Outputs]:
    """How far a model is from the original itself on seeded inputs, and what it gives there."""
    other = ProofRun(model)
    outputs = other.run(original.inputs)
    proof = compare(original.outputs.result(), outputs)
    for _, _, left, right in paths(analysis.nodes, original.bench, other, original.inputs):
        proof = _worse(proof, compare(left, right))
    return replace(proof, reference="original"), outputs


def _inputs(analysis: Analysis, options: Settings) -> feeding.Feeds:
    """Seeded inputs: two samples where every input's first axis may vary and it costs little."""
    sample = dict(analysis.sample)
    dims = [v.type.tensor_type.shape.dim for v in graph.graph_inputs(analysis.model)]
    free = all(len(d) and not d[0].dim_value for d in dims)
    if free and not options.input_shapes and analysis.cost.full[0] < CHEAP:
        sample = {name: (2, *shape[1:]) for name, shape in sample.items()}
    return feeding.seeded(analysis.model, ops.index_bounds(analysis.nodes), sample, options.seed)


def _proof(
    analysis: Analysis, plan: Plan, original: Original, smaller: ProofRun, pruned: Outputs
) -> Proof:
    """Of the outputs, and of those along the branches that the inputs do not take."""
    reference, inputs = _reference(analysis, plan, original), original.inputs
    proof = _compared(analysis, plan, (reference, smaller), (inputs, pruned))
    for sent, other, _, outputs in paths(analysis.nodes, reference, smaller, inputs):
        if not proof.passed:
            break
        proof = _worse(proof, _compared(analysis, plan, (sent, other), (inputs, outputs)))
    return proof


def _compared(
    analysis: Analysis,
    plan: Plan,
    benches: tuple[ProofRun, ProofRun],
    runs: tuple[feeding.Feeds, Outputs],
) -> Proof:
    """Of the outputs; where they differ in a model that rounds, of the pieces between roundings."""
    proof = prove(benches[0], plan, analysis.nodes, runs, analysis.roles.reads)
    if proof.passed:
        return proof
    try:
        return prove_between(analysis, plan, *benches, runs[0]) or proof
    except InputError:  # the pruned model does not run there
        return proof


def _worse(a: Proof, b: Proof) -> Proof:
    b_is_worse = a.passed and not (b.passed and b.max_relative_error <= a.max_relative_error)
    return b if b_is_worse else a


def _reference(analysis: Analysis, plan: Plan, original: Original) -> ProofRun:
    """The original, made to normalise over what is left where the plan cuts inexactly."""
    detours = detours_of(analysis.nodes, plan, analysis.rules) if analysis.inexact else []
    if not detours:
        return original.bench
    bench = original.bench
    return ProofRun(analysis.model, analysis.read, bench.fed, bench.masks, detours)


def _guilty(
    analysis: Analysis, kept: Masks, proof: Proof, tools: tuple[Original, Settings]
) -> ProofError:
    """Halve the groups that are cut until one is left that fails on its own."""
    original, options = tools
    inputs, outputs = original.inputs, original.outputs.result()
    if not compare(outputs, outputs).passed:
        return ProofError(
            f"no proof possible: the original itself gives NaN at output '{proof.output}' on "
            "seeded inputs. Nothing was written."
        )

    def fails(parts: Sequence[Sequence[int]]) -> bool:
        members = {g for part in parts for g in part}
        only = [k if g in members else np.ones_like(k) for g, k in enumerate(kept)]
        plan = plan_of(analysis.groups, only)
        with external_data.attempt(options.folder, keep=False) as folder:
            model = narrowed(analysis, only, replace(options, scratch=folder))
            try:
                smaller = ProofRun(model)
                return not _proof(analysis, plan, original, smaller, smaller.run(inputs)).passed
            except InputError:
                return True

    together = [block.inside for block in gone_blocks(analysis, kept)]
    suspects: list[Sequence[int]] = list(together)
    cut_alone = (g for g, mask in enumerate(kept) if not mask.all())
    suspects += [(g,) for g in cut_alone if not any(g in block for block in together)]
    while len(suspects) > 1:
        half = suspects[: len(suspects) // 2]
        suspects = half if fails(half) else suspects[len(suspects) // 2 :]
    guilty = suspects[0][0] if suspects else None
    name = "?" if guilty is None else analysis.groups[guilty].name.partition("#")[0]
    return ProofError(
        f"proof failed at output '{proof.output}': relative error {proof.max_relative_error:.2g} "
        f"between the pruned model and the masked original; group '{name}' is cut wrongly. Nothing "
        f"was written. Leave it out with --exclude '{re.escape(name)}' and report the model.",
        guilty,
    )
