"""Make and prove a model that looks at less of its input.

Windows over all there is are first written so that they fit any size: that model equals the
original at full extent, which is proved by running both. What looks at less is that model behind
one more operator: it equals the same model on an input that was cut or resized before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import first_node, graph, runtime, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds
from onnxprune.spatial.extent import Extent, cropped, described, first_node_of
from onnxprune.spatial.space import any_size
from onnxprune.surgery.cut import Stage
from onnxprune.surgery.proof import Outputs, ProofRun, compare
from onnxprune.surgery.prove_cut import Original, worse
from onnxprune.types import Plan

__all__ = ["fitting", "looking_at", "seeing_less"]


def fitting(model: ModelProto, extent: Extent) -> ModelProto:
    """A model by `any_size` for a version of operators that has the one that shows less.

    Raises:
        InputError: there is none.
    """
    node = first_node_of(extent)
    found = first_node.raised(model, node.least)
    if found is None:
        raise InputError(
            f"{node.op} needs operators of version {node.least}, and some of the model mean "
            "something else there: export it again with that version."
        )
    return found


def looking_at(model: ModelProto, extent: Extent) -> ModelProto:
    """A model of `fitting` that looks at an extent of an input alone."""
    node = first_node_of(extent)
    return first_node.with_first(model, extent.input, node.op, node.stored, node.attrs)


def seeing_less(analysis: Analysis, extent: Extent, original: Original) -> Stage:
    """The model that looks at an extent alone, with its proof.

    Args:
        analysis: the original.
        extent: of one of its inputs.
        original: the original, opened.

    Raises:
        InputError: the model does not run on less.
        ProofError: the model does not compute what the original does on less.
    """
    _check_fits(analysis, extent)
    free = fitting(any_size(analysis), extent)
    model = looking_at(free, extent)
    whole = compare(original.outputs, ProofRun(free).run(original.inputs))
    seen = ProofRun(model).run(original.inputs)
    less = {**original.inputs, extent.input: _less(model, extent, original.inputs)}
    shapes = {name: value.shape for name, value in less.items()}
    opened = first_node.opened_axes(free, shapes, extent.input, extent.axes)
    proof = worse(whole, compare(ProofRun(opened).run(less), seen))
    proof = replace(proof, reference="original on less of its input", inputs=original.fed)
    _same_outputs(original.outputs, seen)
    if not proof.passed:
        raise ProofError(
            f"looking at less of input '{extent.input}': output '{proof.output}' is not what the "
            f"original gives, relative error {proof.max_relative_error:.1e}. Nothing was written."
        )
    told = (
        f"{described(extent, original.inputs[extent.input].ndim)}; that model equals the original "
        f"on less of its input, relative error {proof.max_relative_error:.1e}"
    )
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    before, inputs = original.outputs, original.inputs
    return Stage(analysis, kept, Plan({}, {}), model, proof, inputs, before, seen, told=told)


def _check_fits(analysis: Analysis, extent: Extent) -> None:
    """Refuse an extent, perhaps of a plan file, of what the model lacks."""
    sizes = {v.name: graph.declared_sizes(v) for v in graph.graph_inputs(analysis.model)}
    own = sizes.get(extent.input)
    if own is None or max(extent.axes) >= len(own):
        raise InputError(
            f"the extent is one of input '{extent.input}' axis {max(extent.axes)}; the model has "
            f"no such axis. Its inputs: {', '.join(sizes)}."
        )
    for axis, full in zip(extent.axes, extent.full, strict=True):
        if own[axis] not in (None, full):
            raise InputError(
                f"the extent expects axis {axis} of input '{extent.input}' to have {full} "
                f"positions; the model has {own[axis]}. Plans fit other checkpoints of the same "
                "graph only."
            )


def _less(model: ModelProto, extent: Extent, feeds: Feeds) -> NDArray[Any]:
    """What the model looks at of an input."""
    values = feeds[extent.input]
    if extent.kind == "crop":
        return cropped(extent, values)
    first, read = model.graph.node[0], graph.reader(model)
    stored = {name: read(name) for name in first.input if name and name != extent.input}
    known = {name: value for name, value in stored.items() if value is not None}
    computed = runtime.compute(
        *skeleton.node_model(model, [first], {**known, extent.input: values})
    )
    if not computed:
        raise InputError(f"onnxruntime does not run {first.op_type} on input '{extent.input}'")
    return computed[first.output[0]]


def _same_outputs(before: Outputs, after: Outputs) -> None:
    """Refuse outputs of other shapes."""
    for name, value in before.items():
        if np.shape(after[name]) != np.shape(value):
            raise InputError(
                f"output '{name}' keeps space: of less input its shape would be "
                f"{list(np.shape(after[name]))} in place of {list(np.shape(value))}"
            )
