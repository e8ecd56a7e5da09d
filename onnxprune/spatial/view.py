"""Make and prove a model that looks at less of its input.

Windows over all there is are first written so that they fit any size: that model equals the
original at full extent, which is proved by running both. What looks at less is that model behind
one more operator: it equals the same model on an input that was cut or resized before. Where layers
read single positions, as behind a Flatten, their columns of gone positions are cut, and the model
also equals the original with all positions that are gone set to zero, which a crop by multiples of
the strides makes possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import edit, first_node, graph, runtime, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds
from onnxprune.ir.raise_opset import raised
from onnxprune.spatial.extent import Extent, cropped, described, first_node_of
from onnxprune.spatial.positions import Followed, follow
from onnxprune.spatial.space import any_size
from onnxprune.surgery.cut import Stage
from onnxprune.surgery.proof import Outputs, Proof, ProofRun, compare
from onnxprune.surgery.prove_cut import Original, worse
from onnxprune.types import Ints, Plan

__all__ = ["View", "seeing_less", "view"]


@dataclass(frozen=True)
class View:
    """A model for less of an input.

    Attributes:
        extent: what is looked at.
        less: the model that takes the rest alone: any size, without what belongs to gone positions.
        model: the same with the operator that makes the input less, and the original's interface.
        followed: which positions inside are gone, None where nothing stored belongs to them.
    """

    extent: Extent
    less: ModelProto
    model: ModelProto
    followed: Followed | None


def view(analysis: Analysis, extent: Extent) -> View:
    """Let a model look at an extent of an input alone.

    Raises:
        InputError: the model has no such input, its version of operators has none that does it, or
            what it stores belongs to positions that are resized.
    """
    _check_fits(analysis, extent)
    node = first_node_of(extent)
    free = raised(any_size(analysis), node.least)
    if free is None:
        raise InputError(
            f"{node.op} needs operators of version {node.least}, and some of the model mean "
            "something else there: export it again with that version."
        )
    followed = follow(analysis, extent)
    if followed.stored and extent.kind != "crop":
        raise InputError(f"'{min(followed.stored)}' belongs to positions of the input: use a crop")
    less = _without(_fitting(free, analysis, followed), followed.stored)
    model = first_node.with_first(less, extent.input, node.op, node.stored, node.attrs)
    return View(extent, less, model, followed if followed.stored else None)


def _fitting(model: ModelProto, analysis: Analysis, followed: Followed) -> ModelProto:
    """A model whose shapes state the sizes that axes of space are left with."""
    changes = {}
    for node in analysis.nodes:
        other = ops.extents.fitting(node, followed.plan.keep)
        if other is not None:
            changes[node.outputs[0].name] = first_node.Change(other.op, other.stored, other.attrs)
    return first_node.replaced_operators(model, changes) if changes else model


def _without(model: ModelProto, stored: Mapping[str, Mapping[int, Ints]]) -> ModelProto:
    """A model without positions of what it stores."""
    read = graph.reader(model)
    if not stored:
        return model
    if missing := stored.keys() - graph.constants(model).keys():
        raise InputError(
            f"'{min(missing)}' belongs to positions, and is computed: export it as a weight"
        )
    changed = {
        name: lambda n: edit.kept_rows(read(n), {a: np.asarray(k) for a, k in stored[n].items()})
        for name in stored
    }
    return edit.rebuild(model, changed, (), {})


def seeing_less(analysis: Analysis, seen: View, original: Original) -> Stage:
    """The model that looks at an extent alone, with its proof.

    Args:
        analysis: the original.
        seen: what is looked at of one of its inputs.
        original: the original, opened.

    Raises:
        InputError: the model does not run on less.
        ProofError: the model does not compute what the original does on less.
    """
    extent, inputs = seen.extent, original.inputs
    outputs = ProofRun(seen.model).run(inputs)
    _check_outputs(original.outputs, outputs)
    proof = worse(_on_less(seen, inputs, outputs), _at_full_extent(analysis, seen, original))
    if seen.followed is not None and seen.followed.exact:
        run = ProofRun(analysis.model, analysis.read, (), seen.followed.masks)
        proof = worse(proof, compare(run.run(inputs, plan=seen.followed.plan), outputs))
    proof = replace(proof, reference="original on less of its input", inputs=original.fed)
    if not proof.passed:
        raise ProofError(
            f"looking at less of input '{extent.input}': output '{proof.output}' is not what the "
            f"original gives, relative error {proof.max_relative_error:.1e}. Nothing was written."
        )
    told = (
        f"{described(extent, inputs[extent.input].ndim)}; that model equals the original "
        f"on less of its input, relative error {proof.max_relative_error:.1e}"
    )
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    before = original.outputs
    return Stage(
        analysis, kept, Plan({}, {}), seen.model, proof, inputs, before, outputs, told=told
    )


def _on_less(seen: View, inputs: Feeds, outputs: Outputs) -> Proof:
    """Compare with the model that takes what was cut off or resized before."""
    extent = seen.extent
    less = {**inputs, extent.input: _less(seen.model, extent, inputs)}
    shapes = {name: value.shape for name, value in less.items()}
    opened = first_node.opened_axes(seen.less, shapes, extent.input, extent.axes)
    return compare(ProofRun(opened).run(less), outputs)


def _at_full_extent(analysis: Analysis, seen: View, original: Original) -> Proof:
    """Compare the model of any size with the original on all of its input."""
    free = raised(any_size(analysis), first_node_of(seen.extent).least)
    assert free is not None
    return compare(original.outputs, ProofRun(free).run(original.inputs))


def _check_fits(analysis: Analysis, extent: Extent) -> None:
    """Refuse an extent, perhaps of a plan file, of what the model lacks."""
    sizes = {v.name: graph.declared_sizes(v) for v in graph.graph_inputs(analysis.model)}
    own = sizes.get(extent.input)
    if own is None or max(extent.axes) >= len(own):
        raise InputError(
            f"the extent is one of input '{extent.input}' axis {max(extent.axes)}; the model has "
            f"no such axis. Give a plan for one of {', '.join(sizes)}."
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
        raise InputError(
            f"onnxruntime does not run {first.op_type} on input '{extent.input}': crop it"
        )
    return computed[first.output[0]]


def _check_outputs(before: Outputs, after: Outputs) -> None:
    """Refuse outputs of other shapes."""
    for name, value in before.items():
        if np.shape(after[name]) != np.shape(value):
            raise InputError(
                f"output '{name}' keeps space: of less input its shape would be "
                f"{list(np.shape(after[name]))}, not {list(np.shape(value))}. Leave it whole."
            )
