"""Add channels of zeros where they make a model faster, since kernels compute in blocks.

onnxruntime's fast convolutions keep channels in blocks of 8 or 16. A depthwise layer whose channels
fill no whole number of them does not run there at all, and what stands around it is brought into
blocks and back. Zeros up to the next block cost less. They change no result: what makes such a
channel gives zeros, and what reads it multiplies by zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxprune import ops
from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.search import inputs_of, ratio
from onnxprune.allocation.latency.subgraphs import divide
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import zero_biases
from onnxprune.settings import RunSettings, SelectionSettings
from onnxprune.surgery.cut import Stage, equal, running
from onnxprune.surgery.rewrite import rewrite
from onnxprune.types import Group, Plan, Site

__all__ = ["filled", "padded", "widened"]

#: Channels of a kernel's block, and how many times its channels a group may have at most.
BLOCK, WIDEST = 16, 2
#: A model without the zeros must take this much longer.
GAIN = 0.01


def padded(analysis: Analysis, options: SelectionSettings) -> Stage | None:
    """Add channels of zeros where those make the model faster; None where they do not."""
    wanted = {
        g: width
        for g, group in enumerate(analysis.groups)
        if g not in analysis.centred and (width := _wider(analysis, group))
    }
    if not wanted:
        return None
    options.progress("timing wider layers", 0.15)
    try:
        useful = _useful(analysis, wanted, options)
        stage = filled(analysis, useful, options) if useful else None
    except (InputError, ProofError):  # of use to nobody: the model stays as it is
        return None
    if stage is None:
        return None
    share = ratio(analysis.original, stage.model, analysis, options)
    told = f"{stage.told}, and takes {share:.3g} of its time"
    return replace(stage, told=told) if share < 1 - GAIN else None


def filled(analysis: Analysis, widths: Mapping[int, int], options: RunSettings) -> Stage:
    """Add channels of zeros to some groups, and prove that nothing changes.

    Args:
        analysis: the model.
        widths: channels that each of the groups gets, by its number.
        options: the user's settings.

    Raises:
        ProofError: it does not compute what the original does.
    """
    plan = widened(analysis.groups, widths)
    model = zero_biases.unbiased(
        rewrite(analysis.model, analysis.nodes, plan, analysis.read, options.folder)
    )
    with running(analysis, options) as original:
        proof, pruned = equal(analysis, model, original)
        outputs = original.outputs
    if not proof.passed:
        raise ProofError(
            f"channels of zeros changed output '{proof.output}' by {proof.max_relative_error:.2g}; "
            "nothing was written. Report the model."
        )
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    count = sum(width - analysis.groups[g].channels for g, width in widths.items())
    told = (
        f"first {count} channels of zeros in {len(widths)} groups filled the runtime's blocks; "
        f"that model equals the original, relative error {proof.max_relative_error:.1e}"
    )
    return Stage(analysis, kept, plan, model, proof, original.inputs, outputs, pruned, told=told)


def widened(groups: Sequence[Group], widths: Mapping[int, int]) -> Plan:
    """Plan more channels for some groups; positions from an axis' size on are zeros."""
    keep, size = {}, {}
    for g, width in widths.items():
        for site in groups[g].sites:
            for axis in site.axes:
                keep[axis] = np.arange(width * site.positions.shape[1])
                size[axis] = site.size
    return Plan(keep, size)


def _wider(analysis: Analysis, group: Group) -> int:
    """The channels that fill whole blocks; 0 where that is nothing to think of."""
    width = -(-group.channels // BLOCK) * BLOCK
    if width == group.channels or width > WIDEST * group.channels or group.inexact:
        return 0
    axes = {axis for axis, _ in group.axes()}
    convolutions = {node.name for node in analysis.nodes if ops.convolves(node.op)}
    convolved = any(analysis.roles.makes.get(axis) in convolutions for axis in axes)
    stored = [
        analysis.read(name) for name in {axis.tensor for axis in axes} & analysis.stored.keys()
    ]
    real = all(values is not None and values.dtype.kind == "f" for values in stored)
    return width if convolved and real and all(map(_plain, group.sites)) else 0


def _plain(site: Site) -> bool:
    """Whether the axes hold this group alone, channel by channel: more of them fit behind."""
    n, k = site.positions.shape
    in_order = np.array_equal(site.positions.ravel(), np.arange(n * k))
    return in_order and site.size == n * k and not site.nominal


def _useful(
    analysis: Analysis, widths: Mapping[int, int], options: SelectionSettings
) -> dict[int, int]:
    """Those of the groups whose layers are faster with the zeros, all others having them."""
    model = rewrite(analysis.model, analysis.nodes, widened(analysis.groups, widths), analysis.read)
    wide = analyze(model, options)
    subgraphs = divide(wide, inputs_of(wide, options))
    at = {group.name: g for g, group in enumerate(wide.groups)}
    cache, useful = TimeCache(options.stopwatch), {}
    for g, width in widths.items():
        there = at.get(analysis.groups[g].name)
        if there is None or wide.groups[there].channels != width:
            continue
        around = subgraphs.around(there, [np.inf] * len(subgraphs.single), 0.0)
        whole = subgraphs.job(around, {})
        job = subgraphs.job(around, {there: analysis.groups[g].channels})
        if cache.measure({job.signature: job.model}, whole)[job.signature] > 1 + GAIN:
            useful[g] = width
    cache.store()
    return useful
