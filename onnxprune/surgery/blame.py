"""Which group is to blame where the proof of a cut fails: halve what is cut until one is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from onnxprune.errors import ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.surgery.proof import SEEDED, Outputs, Proof, compare
from onnxprune.surgery.remove_blocks import gone_blocks
from onnxprune.types import Masks

__all__ = ["blamed"]


def blamed(
    analysis: Analysis,
    kept: Masks,
    proof: Proof,
    original: Outputs,
    passes: Callable[[Masks], bool],
) -> ProofError:
    """The error that names the group whose cut fails on its own.

    Args:
        analysis: the model.
        kept: (n_channels,) what stays of every group, which failed together.
        proof: how it failed.
        original: outputs of the original.
        passes: whether the proof of another cut passes.
    """
    if not compare(original, original).passed:
        return _without_numbers(proof)
    suspects = _suspects(analysis, kept)
    while len(suspects) > 1:
        half = suspects[: len(suspects) // 2]
        members = {g for part in half for g in part}
        only = [k if g in members else np.ones_like(k) for g, k in enumerate(kept)]
        suspects = suspects[len(suspects) // 2 :] if passes(only) else half
    guilty = suspects[0][0] if suspects else None
    name = "?" if guilty is None else analysis.groups[guilty].name.partition("#")[0]
    return ProofError(
        f"proof failed at output '{proof.output}': relative error {proof.max_relative_error:.2g} "
        f"between the pruned model and the masked original; group '{name}' is cut wrongly. Nothing "
        f"was written. Leave it out with --exclude '{re.escape(name)}' and report the model.",
        guilty,
    )


def unequal(proof: Proof, original: Outputs) -> ProofError:
    """The error of a lossless removal that changed something.

    Args:
        proof: how it failed.
        original: outputs of the original.
    """
    if not compare(original, original).passed:
        return _without_numbers(proof)
    return ProofError(
        f"lossless removal changed output '{proof.output}' by {proof.max_relative_error:.2g}; "
        "nothing was written. Report the model."
    )


def _without_numbers(proof: Proof) -> ProofError:
    advice = "Leave out samples on which it gives NaN"
    if proof.inputs == SEEDED:
        advice = "Give samples with --calib or --data: then it runs on them"
    return ProofError(
        f"no proof possible: the original itself gives NaN at output '{proof.output}' on "
        f"{proof.inputs}. Nothing was written. {advice}."
    )


def _suspects(analysis: Analysis, kept: Masks) -> list[Sequence[int]]:
    """Groups that are cut, those together that go with one block."""
    together: list[Sequence[int]] = [block.inside for block in gone_blocks(analysis, kept)]
    cut_alone = (g for g, mask in enumerate(kept) if not mask.all())
    return together + [(g,) for g in cut_alone if not any(g in block for block in together)]
