"""Find the axes of an input along which a model looks at less without a change of its results.

Nothing is known of operators here. An input's axis is given two sizes, and shape inference says
which sizes inside the model follow it and by what stride: an output whose size does is one that
keeps space. Where a stated shape ends that, positions are followed further (see `positions`).
Whether the model really runs on other sizes is tried later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxprune import ops
from onnxprune.errors import InputError, one_line
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import first_node, graph, shape_inference
from onnxprune.ir.graph import ModelProto
from onnxprune.spatial.extent import Extent
from onnxprune.spatial.positions import follow
from onnxprune.types import Node, Tensor

__all__ = ["Space", "SpaceAxis", "any_size", "find_space", "hints"]

#: Shortest axis that can be cut.
SHORTEST = 16


@dataclass(frozen=True)
class SpaceAxis:
    """An axis of an input that holds space or time.

    Attributes:
        axis: its number.
        size: positions under the sample input.
        stride: positions for one of the coarsest tensor inside the model that still has space.
        fixed: whether the model states the size.
    """

    axis: int
    size: int
    stride: int
    fixed: bool


@dataclass(frozen=True)
class Space:
    """The axes of an input that hold space, or why none of them can be cut.

    Attributes:
        input: its name.
        axes: ascending.
        why: by number of an axis that cannot be cut the reason.
    """

    input: str
    axes: tuple[SpaceAxis, ...]
    why: Mapping[int, str]


def any_size(analysis: Analysis) -> ModelProto:
    """The model with windows over all there is, and shapes, written so that they fit any size."""
    found = {}
    for node in analysis.nodes:
        other = ops.extents.of_any_size(node)
        if other is not None:
            found[node.outputs[0].name] = first_node.Change(other.op, other.stored, other.attrs)
    return first_node.replaced_operators(analysis.original, found)


def find_space(analysis: Analysis, model: ModelProto) -> list[Space]:
    """Find the axes of all inputs of real numbers that hold space.

    Args:
        analysis: the original.
        model: the same by `any_size`.
    """
    found = []
    for value in graph.graph_inputs(model):
        shape = analysis.sample[value.name]
        if graph.input_dtype(value).kind != "f" or len(shape) < 2:
            continue
        axes, why = list[SpaceAxis](), dict[int, str]()
        for axis in range(1, len(shape)):
            if shape[axis] >= SHORTEST:
                stride = _stride(analysis, model, value.name, axis)
                if isinstance(stride, str):
                    why[axis] = stride
                else:
                    fixed = graph.declared_sizes(value)[axis] is not None
                    axes.append(SpaceAxis(axis, shape[axis], stride, fixed))
        found.append(Space(value.name, tuple(axes), why))
    return found


def hints(analysis: Analysis) -> list[str]:
    """Say of a model that seems to be able to look at less how that is asked for.

    Little is looked at for that: whether convolutions read an input's axes, and no output has more
    axes than samples and classes.
    """
    makers = analysis.index.makers
    outputs = [value.name for value in analysis.model.graph.output]
    made = [t for name in outputs if name in makers for t in makers[name].outputs if t.name == name]
    classes = len(made) == len(outputs) and all(0 <= tensor.rank <= 2 for tensor in made)
    if not classes or not any(ops.convolves(node.op) for node in analysis.nodes):
        return []
    return [
        f"input '{value.name}' has axes of space or time: --spatial with --calib also lets the "
        "model look at less of it, where that loses less than channels do"
        for value in graph.graph_inputs(analysis.model)
        if graph.input_dtype(value).kind == "f"
        and sum(size >= SHORTEST for size in analysis.sample[value.name][1:]) > 0
        and len(analysis.sample[value.name]) > 2
    ][:1]


def _stride(analysis: Analysis, model: ModelProto, name: str, axis: int) -> int | str:
    """Total stride along an axis of an input, or why that cannot be cut."""
    free = first_node.opened_axes(model, analysis.sample, name, [axis])
    try:
        nodes = shape_inference.describe(free, ops.traits(), analysis.sample)
    except InputError as error:
        return one_line(error)
    tensors = {tensor.name: tensor for node in nodes for tensor in node.tensors}
    for output in free.graph.output:
        if output.name in tensors and _varying(tensors[output.name]):
            return f"output '{output.name}' keeps space: its sizes follow axis {axis} of '{name}'"
    size = analysis.sample[name][axis]
    followed = follow(analysis, Extent(name, "crop", (axis,), (size,), (size // 2,)))
    coarse = [round(size / count) for count in followed.plan.size.values()]
    return max([1, *_slopes(nodes, name, axis, size), *coarse])


def _varying(tensor: Tensor) -> list[tuple[int, int]]:
    """Pairs of sizes that differ under the two sample inputs."""
    pairs = (str(dim).partition("|") for dim in tensor.shape or () if isinstance(dim, str))
    return [(int(a), int(b)) for a, bar, b in pairs if bar and a != b]


def _slopes(nodes: Sequence[Node], name: str, axis: int, size: int) -> list[int]:
    """How many positions of the input go for one of a tensor inside the model."""
    inputs = {t.name: t for node in nodes for t in node.inputs if t is not None}
    (full, other), *_ = _varying(inputs[name]) or [(size, size)]
    return [
        round((full - other) / (a - b))
        for node in nodes
        for tensor in node.outputs
        for a, b in _varying(tensor)
        if 0 < abs(a - b) <= abs(full - other) and (full - other) * (a - b) > 0
    ]
