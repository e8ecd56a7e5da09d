"""One oracle for every rule and every model: zero → run → keep equals keep → run.

A rule is tested on its operator alone. The engine says which channels the rule leaves free; a
random set of them dies. Left: dead positions of all inputs are zeroed (what stands for reals:
set to its zero point; what is centred: to the mean of the others), the operator runs, dead
positions of the results are cut. Right: inputs are cut, the shrunken operator runs. Both must
agree, and reference results must be finite.
`free` states completeness: how many channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.reference
import pytest
from numpy.typing import NDArray

from onnxprune import ops as ops_module
from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.groups.dependency import Constraints, dependencies
from onnxprune.ir import exact_products, graph, instrument, runtime
from onnxprune.ir.instrument import detoured
from onnxprune.ir.shape_inference import describe
from onnxprune.ops import dequantize
from onnxprune.settings import Settings
from onnxprune.surgery.cut import cut, running
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import alive, detours_of, masks_of
from onnxprune.surgery.rewrite import masked_weights, rewrite, with_zeros
from onnxprune.types import Axis, Detour, Group, Node, Plan

PLANS = 12
#: Texts of cases that neither onnxruntime nor onnx runs, each with the reason. The list is exact: a
#: case that is not in it must run, one that is in it must not.
SKIPPED: Mapping[str, str] = {}
#: Operators that onnxruntime runs and onnx's checker refuses: it does not know them, calls them
#: deprecated, or infers another shape than they have.
UNKNOWN = frozenset(
    {"GroupNormalization", "MeanVarianceNormalization", "STFT", "SimplifiedLayerNormalization"}
)
Engine: TypeAlias = Callable[[onnx.ModelProto, Mapping[str, NDArray[Any]]], Mapping[str, Any]]
#: Element types of activations by the beginning of their names; others are floats.
KINDS = {
    "flag": onnx.TensorProto.BOOL,
    "whole": onnx.TensorProto.INT64,
    "byte": onnx.TensorProto.UINT8,
    "signed": onnx.TensorProto.INT8,
}


@dataclass(frozen=True)
class Case:
    """Operators as ONNX text; tensors by name: a shape is an activation, an array a constant.

    `free` channels are free as they are, `inexact` ones if removal may change the others.
    """

    text: str
    free: int
    tensors: Mapping[str, Any]
    opset: int = 17
    inexact: int | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def ops(self) -> set[str]:
        """Operators of the case, as the rule tables name them."""
        return {graph.op_key(onnx.parser.parse_node(line)) for line in self.text.split(";")}


def case(text: str, free: int, opset: int = 17, inexact: int | None = None, **tensors: Any) -> Case:
    """A shape (tuple) makes an activation, `w(…)` a weight, an array a constant."""
    return Case(text, free, tensors, opset, inexact)


def w(*shape: int) -> NDArray[np.float32]:
    """A seeded weight without zeros."""
    return np.random.default_rng(sum(shape)).uniform(0.5, 1.5, shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    """A constant list of integers."""
    return np.array(values, np.int64)


def build(c: Case) -> onnx.ModelProto:
    """The case as a model whose activations are inputs and whose last results are outputs."""
    nodes = [onnx.parser.parse_node(line) for line in c.text.split(";")]
    read = {name for node in nodes for name in node.input}
    results = [name for node in nodes for name in node.output if name and name not in read]
    shapes = {k: v for k, v in c.tensors.items() if isinstance(v, tuple)}
    constants = {k: v for k, v in c.tensors.items() if not isinstance(v, tuple)}
    kinds = dict.fromkeys(shapes, onnx.TensorProto.FLOAT)
    for prefix, kind in KINDS.items():
        kinds |= {k: kind for k in shapes if k.startswith(prefix)}
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "case",
            [onnx.helper.make_tensor_value_info(k, kinds[k], v) for k, v in shapes.items()],
            [onnx.ValueInfoProto(name=name) for name in results],
            [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()],
        ),
        opset_imports=[
            onnx.helper.make_opsetid("", c.opset),
            onnx.helper.make_opsetid("com.microsoft", 1),
            onnx.helper.make_opsetid("ai.onnx.ml", 3),
        ],
        ir_version=8,
    )
    return model


def check_rule(c: Case, skipped: Mapping[str, str] = SKIPPED) -> None:
    """Assert the oracle's equation and the number of free channels of a case.

    A case in `skipped` is skipped, and fails if an engine runs it after all.
    """
    ran = _check(c, c.free, Constraints())
    if ran and c.inexact is not None:
        ran = _check(c, c.inexact, Constraints(inexact=True))
    if not ran:
        assert c.text in skipped, f"{c}: neither onnxruntime nor onnx runs it; see oracle.SKIPPED"
        pytest.skip(skipped[c.text])
    assert c.text not in skipped, f"{c}: runs, so that oracle.SKIPPED must not list it"


def described(model: onnx.ModelProto) -> Sequence[Node]:
    """The nodes of a model as rules see them."""
    return ops_module.marked(describe(model, ops_module.traits()))


def freed(nodes: Sequence[Node], limits: Constraints) -> tuple[Group, ...]:
    """What the registered rules leave free, whether or not a weight makes it."""
    return dependencies(nodes, ops_module.COUPLINGS, limits).groups(lambda axes: axes[0].tensor)


def _check(c: Case, expected: int, limits: Constraints) -> bool:
    """Check a case under constraints; False if no engine runs its operators."""
    model = build(c)
    nodes = described(model)
    groups = freed(nodes, limits)
    found = sum(group.channels for group in groups)
    assert found == expected, f"{c}: the rule frees {found} channels, expected {expected}"
    rng = np.random.default_rng(0)
    done = 0
    for _ in range(8 * PLANS):
        kept = [rng.random(group.channels) < rng.uniform(0.3, 1) for group in groups]
        plan = plan_of(groups, kept)
        # nothing dies out: no axis, and no group that had several channels
        alive = all(mask.any() or len(mask) == 1 for mask in kept)
        if done < PLANS and plan.keep and alive and all(len(at) for at in plan.keep.values()):
            if not _compare(model, nodes, plan, _feeds(model, rng)):
                return False
            done += 1
    assert done or not found, f"{c}: no plan could be drawn"
    return True


def _feeds(model: onnx.ModelProto, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    feeds = {}
    for value in graph.graph_inputs(model):
        shape = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
        kind = graph.input_dtype(value)
        if kind == np.bool_:
            feeds[value.name] = np.asarray(rng.random(shape) < 0.5)
        elif kind.itemsize == 1:
            feeds[value.name] = rng.integers(0, 128, shape).astype(kind)
        else:
            feeds[value.name] = (rng.uniform(0.5, 2, shape) * 2).astype(kind)
    return feeds


def _compare(
    model: onnx.ModelProto, nodes: Sequence[Node], plan: Plan, feeds: Mapping[str, NDArray[Any]]
) -> bool:
    """Assert that both sides agree for one plan; False if no engine runs the left one."""
    zeroed, cut_down = {}, {}
    read = graph.reader(model)
    zeros = dequantize.zeros(nodes, read)
    for name, value in feeds.items():
        keep = {axis: plan.keep[at] for axis in range(value.ndim)
                if (at := Axis(name, axis)) in plan.keep}  # fmt: skip
        zeroed[name] = with_zeros(value.copy(), zeros(name), keep)
        cut_down[name] = value
        for axis, kept in keep.items():
            cut_down[name] = np.take(cut_down[name], kept, axis)
    masked = onnx.ModelProto()
    masked.CopyFrom(model)
    weights = masked_weights(read, nodes, plan)
    for tensor in masked.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    masked, living = _centred(masked, nodes, plan)
    detours = detours_of(nodes, plan, ops_module.COUPLINGS)
    reference = _reference(masked, {**zeroed, **living}, detours)
    if reference is None:
        return False
    left, engine = reference
    right = engine(rewrite(model, nodes, plan), cut_down)
    for name, value in left.items():
        expected = value
        for axis in range(np.ndim(value)):
            if Axis(name, axis) in plan.keep:
                expected = np.take(expected, plan.keep[Axis(name, axis)], axis)
        shapes = expected.shape, right[name].shape
        assert shapes[0] == shapes[1], f"'{name}' is {shapes[1]}, the reference cut {shapes[0]}"
        if np.issubdtype(expected.dtype, np.floating):
            assert np.isfinite(expected).all(), "the reference itself is not finite"
        # single precision sums of the same numbers in another order
        np.testing.assert_allclose(right[name], expected, rtol=1e-5, atol=1e-5)
    return True


def _centred(
    masked: onnx.ModelProto, nodes: Sequence[Node], plan: Plan
) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """The reference with dead positions at the mean of others where that is subtracted."""
    masks = masks_of(nodes, plan.keep)
    masks = masks if any(mask.centred for mask in masks) else []
    return instrument.masked(masked, masks), {mask.feed: alive(mask, plan) for mask in masks}


def _onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
    plain = exact_products.exact(_copy(model), ops_module.PAIRS)
    return runtime.run(runtime.open_session(graph.model_bytes(plain), optimize=False), feeds)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _onnx(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
    values = onnx.reference.ReferenceEvaluator(model).run(None, dict(feeds))
    return dict(zip((output.name for output in model.graph.output), values, strict=True))


def _reference(
    masked: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], detours: Sequence[Detour]
) -> tuple[Mapping[str, Any], Engine] | None:
    """Results and what computed them: onnx itself where onnxruntime lacks the operator."""
    try:
        found, engine = _onnxruntime(masked, feeds), _onnxruntime
    except InputError:  # nothing of ours is in the reference yet
        try:
            found, engine = _onnx(masked, feeds), _onnx
        except Exception:  # whatever it raises where it lacks the operator
            return None
    return (engine(detoured(masked, detours), feeds) if detours else found), engine


def operators(model: onnx.ModelProto) -> set[str]:
    """Operators of the main graph, as the rule tables name them."""
    return {graph.op_key(node) for node in model.graph.node}


def check_model(
    model: onnx.ModelProto,
    plans: int = 5,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    inexact: bool = False,
) -> int:
    """Cut random channels of all groups and prove it; returns the number of prunable channels."""
    analysis = analyze(model, Settings(input_shapes=shapes, allow_inexact=inexact))
    rng, known = np.random.default_rng(seed), not UNKNOWN & operators(model)
    for _ in range(plans):
        kept = [rng.random(group.channels) < rng.uniform(0.3, 1) for group in analysis.groups]
        for mask in kept:
            mask[rng.integers(len(mask))] = True
        options = Settings(input_shapes=shapes, allow_inexact=inexact)
        with running(analysis, options) as original:
            stage = cut(analysis, kept, options, original)  # raises ProofError
        if known:
            onnx.checker.check_model(stage.model, full_check=True)
    return sum(group.channels for group in analysis.groups)
