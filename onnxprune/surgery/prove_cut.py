"""The proof of a cut: of the outputs on every path, and between roundings where models round."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import NamedTuple

from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir.inputs import Feeds
from onnxprune.surgery import lossless
from onnxprune.surgery.branch_proof import paths
from onnxprune.surgery.proof import (
    SEEDED,
    Outputs,
    Proof,
    ProofRun,
    Sides,
    compare,
    detours_of,
    prove,
)
from onnxprune.surgery.rounding_proof import prove_between
from onnxprune.types import Plan

__all__ = ["FirstRun", "Original", "prove_cut", "prove_equal", "worse"]


class FirstRun(NamedTuple):
    """What the original is fed, what it makes of it, and what reports call the former."""

    inputs: Feeds
    outputs: Outputs
    fed: str = SEEDED


@dataclass(frozen=True)
class Original:
    """The original opened for the proof, and its first run, which may not be over yet."""

    run: ProofRun
    first: Future[FirstRun]

    @property
    def inputs(self) -> Feeds:
        """What it was fed."""
        return self.first.result().inputs

    @property
    def fed(self) -> str:
        """What reports call that."""
        return self.first.result().fed

    @property
    def outputs(self) -> Outputs:
        """What it made of it.

        Raises:
            InputError: it does not run.
        """
        return self.first.result().outputs


def prove_cut(
    analysis: Analysis, plan: Plan, original: Original, pruned: ProofRun, outputs: Outputs
) -> Proof:
    """Prove a plan's cut, also along the branches that the inputs do not take.

    Args:
        analysis: the original.
        plan: what was cut.
        original: the original, opened.
        pruned: the smaller model, opened.
        outputs: what it gives on the original's inputs.
    """
    reference = _reference(analysis, plan, original)
    proof = _compared(analysis, plan, Sides(reference, pruned, original.inputs, outputs))
    for sides, _ in paths(analysis.nodes, reference, pruned, original.inputs):
        if not proof.passed:
            break
        proof = worse(proof, _compared(analysis, plan, sides))
    return proof


def _compared(analysis: Analysis, plan: Plan, sides: Sides) -> Proof:
    """Of the outputs; where they differ in a model that rounds, of the pieces between roundings."""
    proof = prove(sides, plan, analysis.nodes, analysis.roles.reads)
    if proof.passed:
        return proof
    try:
        return prove_between(analysis, plan, sides) or proof
    except InputError:  # the pruned model does not run there
        return proof


def prove_equal(
    analysis: Analysis, plan: Plan | None, original: Original, pruned: ProofRun, outputs: Outputs
) -> Proof:
    """Prove that a model is the original itself, also along the branches not taken.

    Args:
        analysis: the original.
        plan: what was cut; without one nothing is looked at but the outputs.
        original: the original, opened.
        pruned: the other model, opened.
        outputs: what that gives on the original's inputs.
    """
    sides = Sides(original.run, pruned, original.inputs, outputs)
    proof = _equal(analysis, plan, sides, original.outputs)
    for sides, reference in paths(analysis.nodes, original.run, pruned, original.inputs):
        proof = worse(proof, _equal(analysis, plan, sides, reference))
    return proof


def _equal(analysis: Analysis, plan: Plan | None, sides: Sides, reference: Outputs) -> Proof:
    """Of the outputs; where they differ in a model that rounds, of the pieces between roundings."""
    proof = replace(compare(reference, sides.outputs), reference="original")
    if plan is None or proof.max_relative_error <= lossless.TOLERANCE:
        return proof
    try:
        return prove_between(analysis, plan, sides, zeroed=False) or proof
    except InputError:  # the smaller model does not run there
        return proof


def worse(a: Proof, b: Proof) -> Proof:
    """The one of two proofs that says less."""
    b_is_worse = a.passed and not (b.passed and b.max_relative_error <= a.max_relative_error)
    return b if b_is_worse else a


def _reference(analysis: Analysis, plan: Plan, original: Original) -> ProofRun:
    """The original, made to normalise over what is left where the plan cuts inexactly."""
    detours = detours_of(analysis.nodes, plan, analysis.rules) if analysis.inexact else []
    if not detours:
        return original.run
    run = original.run
    return ProofRun(analysis.model, analysis.read, run.fed, run.masks, detours)
