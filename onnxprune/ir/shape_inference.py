"""Which sizes a model has: static ones, and symbols for those that vary with the input.

Every varying input size is given two sample values. Shapes are inferred under both; a size that
is equal is static, one that differs becomes the symbol "first|second", so that two equal symbols
are two equal sizes. Computed shape arithmetic is evaluated in onnxruntime and handed back to the
inference until nothing new is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.ir import graph, runtime, skeleton, subgraphs
from onnxprune.ir import tensors as tensors_module
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Body, Dim, Node, Tensor, Traits

__all__ = ["describe", "sample_shapes"]

Shapes = dict[str, tuple[int | None, ...]]
Values = dict[str, NDArray[Any]]
#: Operators that read sizes.
_SHAPE, _SIZE = "Shape", "Size"


#: Positions of an axis at most, and numbers of a tensor: more do not fit into memory.
LARGEST, MOST_NUMBERS = 2**28, 2**32


class _Constants(NamedTuple):
    """Values of small constants: `small` are stored, `fixed` are computed from them alone."""

    small: Values
    fixed: Values


def sample_shapes(
    model: ModelProto,
    given: Mapping[str, Sequence[int]] | None = None,
    second: bool = False,
    usual: int | None = None,
) -> dict[str, tuple[int, ...]]:
    """A concrete shape for every graph input; `second` gives other sizes where they may vary.

    Varying sizes: a first axis is a batch of 1, height and width are 224, others 32. With `usual`
    all but batches have that size, and a single axis is no batch.

    Raises:
        InputError: `given` names no input, or does not fit its declared shape.
    """
    given = dict(given or {})
    shapes, symbols, stated = {}, dict[str, int](), dict[str, int]()
    for value in graph.graph_inputs(model):
        declared = value.type.tensor_type.shape.dim
        wanted = given.pop(value.name, None)
        if wanted is not None and len(wanted) != len(declared):
            raise InputError(
                f"input '{value.name}' has {len(declared)} axes, but --input-shape gives "
                f"{len(wanted)}: {list(wanted)}. Give one size for each axis."
            )
        shape = []
        for axis, dim in enumerate(declared):
            static = graph.declared_size(dim)
            if wanted is not None and static not in (None, wanted[axis]):
                raise InputError(
                    f"input '{value.name}' axis {axis} is {static} in the model, but "
                    f"--input-shape gives {wanted[axis]}. Give the same, or leave it out."
                )
            size = static or (
                wanted[axis] if wanted is not None else _guess(axis, len(declared), usual)
            )
            size = _other(size, axis) if second and static is None else size
            symbol = _symbol(dim.dim_param, None if wanted is None else wanted[axis], stated)
            shape.append(symbols.setdefault(symbol, size) if symbol else size)
        shapes[value.name] = _fed(value.name, shape)
    if given:
        known = ", ".join(shapes)
        raise InputError(
            f"the model has no input '{next(iter(given))}'. Its inputs: {known}. Name one"
        )
    return shapes


def _symbol(name: str, wanted: int | None, stated: dict[str, int]) -> str:
    """The name of a size that varies; of its own where another size is stated than for the first.

    Names such as "?" say nothing. `stated` keeps what the first size of a name is.
    """
    if not name or wanted is None or stated.setdefault(name, wanted) == wanted:
        return name
    return f"{name} of {wanted}"


def _fed(name: str, shape: list[int]) -> tuple[int, ...]:
    """The shape of a sample input, unless nothing could hold it."""
    if math.prod(shape) > LARGEST:
        raise InputError(
            f"input '{name}' of shape {shape} would take more than {LARGEST} numbers. State other "
            "sizes with --input-shape, or export the model with smaller ones."
        )
    return tuple(shape)


def _guess(axis: int, rank: int, usual: int | None) -> int:
    """A size for an axis that varies."""
    if axis == 0 and (rank > 1 or usual is None):
        return 1
    return usual or (224 if rank == 4 else 32)


def _other(size: int, axis: int) -> int:
    """A second size, far enough away that strides do not round the difference off.

    Smaller where that is possible: positions that a model looks up may be limited.
    """
    if axis == 0 or size < 8:
        return 2 * size
    return size - 32 if size >= 64 else size // 2


class Inferred(NamedTuple):
    """Shapes of all tensors for one sample input, None for sizes unknown; small constants."""

    shapes: Shapes
    values: Values


def describe(
    model: ModelProto, traits: Traits, given: Mapping[str, Sequence[int]] | None = None
) -> tuple[Node, ...]:
    """Describe every operator of the model with what is known of its tensors.

    Args:
        model: in one scope.
        traits: which operators may be evaluated, and what of them decides.
        given: shapes of inputs by name, where they vary.
    """
    small = {
        name: tensors_module.array(tensor)
        for name, tensor in graph.constants(model).items()
        if math.prod(tensor.dims) <= graph.SMALL
        and tensor.data_type != 8
        and (tensor.data_type in (6, 7, 9, 12) or math.prod(tensor.dims) <= 64)
    }
    constants = _Constants(small, _evaluate(model, {}, small, traits))
    samples = [sample_shapes(model, given, second) for second in (False, True)]
    taken = dict[str, bool]()
    while True:
        first = second = _infer(model, samples[0], constants, taken, traits)
        _fits_memory(first.shapes)
        if samples[0] != samples[1]:
            second = _infer(model, samples[1], constants, taken, traits)
        tensors = _tensors(model, first, second)
        found = _taken(model, tensors, traits)
        if found == taken:
            return tuple(_node(node, tensors, _opset(model), taken) for node in graph.walk(model))
        taken = found


def _node(node: Any, tensors: Mapping[str, Tensor], opset: int, taken: Mapping[str, bool]) -> Node:
    inputs = tuple(tensors[name] if name else None for name in node.input)
    inner = subgraphs.bodies(node)
    if inner and node.input[0] in tensors and node.input[0] not in taken:
        inputs = (replace(tensors[node.input[0]], value=None, known=None), *inputs[1:])
    return Node(
        name=graph.label(node),
        op=graph.op_key(node),
        inputs=inputs,
        outputs=tuple(tensors[name] for name in node.output if name),
        attrs=graph.attributes(node),
        opset=opset,
        captured=tuple(tensors[n] for n in sorted(subgraphs.captured(node)) if n in tensors),
        bodies=tuple(
            Body(
                name,
                tuple(tensors[value.name] for value in body.input),
                tuple(tensors[value.name] for value in body.output),
            )
            for name, body in inner
        ),
        slots=tuple(place for place, name in enumerate(node.output) if name),
    )


def _opset(model: ModelProto) -> int:
    own = (o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    return max(own, default=0)


def _infer(
    model: ModelProto,
    inputs: Mapping[str, Sequence[int]],
    constants: _Constants,
    taken: Mapping[str, bool],
    traits: Traits,
) -> Inferred:
    """Shapes of all tensors, values of the small constants among them.

    `taken` are conditions of If.
    """
    small, values = constants.small, dict(constants.fixed)
    declared = graph.declared_shapes(model)
    while True:
        bare = skeleton.skeleton(model, inputs)
        shapes = skeleton.infer(bare, values, taken)
        shapes.update(_foreign(bare, shapes))
        shapes.update({name: tuple(t.dims) for name, t in graph.constants(model).items()})
        shapes.update({name: value.shape for name, value in values.items()})
        for name, shape in declared.items():  # what inference does not know, the file may
            shapes.setdefault(name, shape)
        shapes = {name: _possible(shape) for name, shape in shapes.items()}
        learnt = _evaluate(model, shapes, {**small, **values}, traits)
        missing = any(
            None in shapes.get(name, (None,))
            for n in graph.walk(model)
            for name in n.output
            if name
        )
        if not learnt or not missing:
            return Inferred(shapes, {**small, **values, **learnt})
        values |= learnt


def _fits_memory(shapes: Shapes) -> None:
    """Refuse a model that nothing could run."""
    for name, shape in shapes.items():
        if None not in shape and math.prod(d or 0 for d in shape) > MOST_NUMBERS:
            raise InputError(
                f"tensor '{name}' would have the shape {list(shape)}, which takes more than "
                f"{MOST_NUMBERS} numbers. State smaller sizes with --input-shape, or export the "
                "model again."
            )


def _possible(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """A shape as inferred, without sizes that no tensor has: below zero, or beyond all memory."""
    return tuple(d if d is not None and 0 <= d <= LARGEST else None for d in shape)


def _foreign(bare: ModelProto, shapes: Shapes) -> Shapes:
    """What onnxruntime infers behind operators that onnx does not know."""
    unknown = skeleton.unknown_behind_foreign(bare, shapes)
    if not unknown:
        return {}
    found = runtime.output_shapes(skeleton.with_outputs(bare, unknown))
    return {name: found[name] for name in unknown if found.get(name)}


def _evaluate(model: ModelProto, shapes: Shapes, known: Values, traits: Traits) -> Values:
    """Values of the operators that depend on small constants and known shapes alone."""
    reach, nodes, learnt = set(known), [], Values()
    for node in graph.walk(model):
        if not node.output or node.output[0] in known or graph.op_key(node) in traits.random:
            continue
        if node.op_type in (_SHAPE, _SIZE):
            shape = shapes.get(node.input[0], (None,))
            if None not in shape:
                cut = graph.attributes(node)
                sizes = np.array(shape[cut.get("start", 0) : cut.get("end", len(shape))], np.int64)
                learnt[node.output[0]] = sizes if node.op_type == _SHAPE else np.array(sizes.prod())
                reach.add(node.output[0])
        elif node.input and reach.issuperset(n for n in node.input if n) and _plain(node, shapes):
            nodes.append(node)
            reach.update(node.output)
    if nodes:
        learnt |= runtime.compute(*skeleton.node_model(model, nodes, {**known, **learnt}))
    return learnt


def _plain(node: Any, shapes: Shapes) -> bool:
    """No subgraphs, and no result that is known to be large."""
    if _has_graphs(node):
        return False
    return all(
        math.prod(d or 1 for d in shapes.get(name, ())) <= graph.SMALL for name in node.output
    )


def _has_graphs(node: Any) -> bool:
    return subgraphs.is_control(node) or bool(subgraphs.hidden(node))


def _taken(model: ModelProto, tensors: Mapping[str, Tensor], traits: Traits) -> dict[str, bool]:
    """Conditions of If that hold, or do not, at every size that the inputs may have.

    That a comparison comes out alike for two samples says little: what it compares must be the
    same for both. What only moves entries, adds or multiplies them is judged by its result.
    """
    known = {n for n, t in tensors.items() if t.value is not None and t.known is None}
    sure = {name for name, tensor in tensors.items() if tensor.constant}
    found = {}
    for node in graph.walk(model):
        if node.op_type == subgraphs.IF and node.input[0] in sure & known:
            found[node.input[0]] = bool(np.ravel(tensors[node.input[0]].value)[0])  # type: ignore[arg-type]
        if node.op_type in (_SHAPE, _SIZE):
            sure.update(node.output)
        elif node.input and not _has_graphs(node):
            deciding = traits.deciding.get(graph.op_key(node), range(len(node.input)))
            agree = {name for k, name in enumerate(node.input) if name and k in deciding}
            if agree <= known and sure.issuperset(name for name in node.input if name):
                sure.update(node.output)
    return found


def _tensors(model: ModelProto, first: Inferred, second: Inferred) -> dict[str, Tensor]:
    """Both samples laid over each other."""
    fixed = set(graph.constants(model))
    names = [v.name for v in graph.graph_inputs(model)] + sorted(fixed)
    for node in graph.walk(model):
        if node.input and fixed.issuperset(n for n in node.input if n) and not _has_graphs(node):
            fixed.update(node.output)
        names += [*node.input, *node.output]
        for _, body in subgraphs.bodies(node):
            names += [value.name for value in (*body.input, *body.output)]
    return {name: _tensor(name, first, second, name in fixed) for name in dict.fromkeys(names)}


def _tensor(name: str, first: Inferred, second: Inferred, constant: bool) -> Tensor:
    """What is the same for two samples is known, the rest may vary."""
    a, b = first.shapes.get(name), second.shapes.get(name)
    shape: tuple[Dim, ...] | None = None
    if a is not None and b is not None and len(a) == len(b):
        shape = tuple(
            m if m is not None and m == n else f"{m}|{n}" if m and n else f"?{name}.{k}"
            for k, (m, n) in enumerate(zip(a, b, strict=True))
        )
    sample = None if a is None or None in a else tuple(d for d in a if d is not None)
    value, other = first.values.get(name), second.values.get(name)
    if value is None or other is None or value.shape != other.shape:
        return Tensor(name, shape, sample, constant=constant)
    known = None if value is other else np.asarray(value == other)
    if known is not None and bool(known.all()):
        known = None
    return Tensor(name, shape, sample, value, known, constant)
