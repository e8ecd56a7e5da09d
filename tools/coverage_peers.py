"""The peers of tools/coverage.py: onnxsim.pruning and Torch-Pruning, each with its best setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from coverage_steps import GOAL, Arrays, difference, inputs_of, macs_of, outputs_of
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxprune.groups.analysis import analyze, load

#: Shares to remove, tried in turn until the MACs are at most half.
SPARSITIES = (0.3, 0.4, 0.5, 0.65, 0.8)
#: A pruned model this near to its masked original computes the same.
EQUAL = 1e-3
#: Integer tensors smaller than this hold sizes, not weights.
SHAPE = 64


def run_onnxsim(file: Path) -> dict[str, Any]:
    """Structured pruning by every function that fits the model, then by heads."""
    original = onnx.load(file)
    analysis = analyze(load(file))
    inputs, full = inputs_of(analysis), analysis.cost.full[0]
    base = _simplified(original, inputs)
    best: tuple[float, onnx.ModelProto] | None = None
    for sparsity in SPARSITIES:
        pruned = base
        for apply in _functions(base):
            pruned = apply(pruned, sparsity)
        share = macs_of(pruned) / max(full, 1)
        if best is None or share < best[0]:
            best = share, pruned
        if share <= GOAL:
            break
    assert best is not None
    share, pruned = best
    removed = weights_of(pruned)[0] < weights_of(base)[0]
    result = {"reached": min(share, 1.0) if removed else 1.0, "status": ""}
    outputs = outputs_of(pruned, inputs)  # raises where the result does not run
    if [np.shape(v) for v in outputs] != [np.shape(v) for v in outputs_of(original, inputs)]:
        raise AssertionError("the outputs have other shapes")
    if removed:
        reference = masked_like(base, pruned)
        result["status"] = "runs"
        masked = [] if reference is None else outputs_of(reference, inputs)
        if masked and all(np.isfinite(v).all() for v in masked if v.dtype.kind == "f"):
            result["error"] = difference(masked, outputs)
            result["status"] = "equal" if result["error"] <= EQUAL else "wrong"
    return result


def _simplified(model: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto:
    """What its pruning expects: normalisation folded; the model itself if that fails."""
    import onnxsim

    try:
        simple, _ = onnxsim.simplify(model)
        outputs_of(simple, inputs)
    except Exception:
        return model
    return simple if isinstance(simple, onnx.ModelProto) else model


def _functions(model: onnx.ModelProto) -> list[Callable[[onnx.ModelProto, float], onnx.ModelProto]]:
    """Everything that onnxsim.pruning offers for the operators of the model."""
    from onnxsim import pruning

    ops = {node.op_type for node in model.graph.node}
    names = ["structured_pruning"]
    fitting = {
        "structured_pruning_qdq": "DequantizeLinear",
        "structured_pruning_qoperator": "QLinearConv",
        "structured_pruning_matmul_nbits": "MatMulNBits",
        "structured_pruning_dynamic_quantize_matmul": "MatMulInteger",
        "structured_pruning_dynamic_quantize_conv": "ConvInteger",
    }
    names += [name for name, op in fitting.items() if op in ops]
    if {"Softmax", "Attention", "MultiHeadAttention"} & ops:
        names.append("attention_head_pruning")
    return [getattr(pruning, f"apply_{name}") for name in names]


def weights_of(model: onnx.ModelProto) -> tuple[int, Arrays]:
    """How many elements are stored in tensors of any rank, and the tensors by name."""
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return sum(v.size for v in stored.values()), stored


def masked_like(base: onnx.ModelProto, pruned: onnx.ModelProto) -> onnx.ModelProto | None:
    """The unpruned model with zeros where `pruned` has lost positions; None if that is unknown.

    Random weights are mostly different, so the numbers of a smaller weight say where they were.
    """
    if any(_hides_weights(node) for node in base.graph.node):
        return None
    before, after = weights_of(base)[1], weights_of(pruned)[1]
    changed: Arrays = {}
    for name, values in after.items():
        zeroed = _zeroed(before[name], values) if name in before else None
        if zeroed is None:
            return None
        changed[name] = zeroed
    masked = onnx.ModelProto()
    masked.CopyFrom(base)
    for tensor in masked.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return masked


def _zeroed(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any] | None:
    """`old` with zeros at what `new` lacks; None if `new` is not a part of it."""
    if old.dtype.kind in "iu" and old.size < SHAPE:
        return old
    if old.ndim != new.ndim or old.dtype != new.dtype:
        return None
    if old.shape == new.shape:
        return old if np.array_equal(old, new) else None
    where = _places(old, new) if old.dtype.kind == "f" else None
    if where is None:
        return None
    alive = np.zeros(old.shape, bool)
    alive[np.ix_(*where)] = True
    return np.where(alive, old, 0).astype(old.dtype)


def _hides_weights(node: onnx.NodeProto) -> bool:
    """Whether weights may lie in the node itself: a Constant, or a body."""
    return any(
        a.HasField("g") or (node.op_type == "Constant" and len(a.t.dims) > 0)
        for a in node.attribute
    )


def _places(old: NDArray[Any], new: NDArray[Any]) -> list[NDArray[np.int64]] | None:
    """For every axis the positions of `old` that `new` consists of; None if they are not clear."""
    values, first, count = np.unique(old, return_index=True, return_counts=True)
    at = np.searchsorted(values, new.ravel()).clip(0, len(values) - 1)
    clear = (values[at] == new.ravel()) & (count[at] == 1)
    kept = [np.unique(c) for c in np.unravel_index(first[at[clear]], old.shape)]
    if tuple(map(len, kept)) != new.shape or not np.array_equal(old[np.ix_(*kept)], new):
        return None
    return kept


def run_torch_pruning(name: str, file: Path) -> dict[str, Any]:
    """Magnitude pruning of the module to half its operations, and a new export."""
    import corpus
    import torch
    import torch_pruning as tp

    entry = corpus.load_entries()[name]
    full = macs_of(load(file))
    ratio, net = 0.0, corpus.seeded(entry)
    for ratio in SPARSITIES:
        net = corpus.seeded(entry)
        for values in net.module.parameters():
            values.requires_grad_(values.is_floating_point())
        heads = dict(_attention(net.module))
        before, _ = tp.utils.count_ops_and_params(net.module, net.inputs)
        pruner = tp.pruner.MagnitudePruner(
            net.module, net.inputs, importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio, ignored_layers=_last(net), num_heads=heads,
        )  # fmt: skip
        pruner.step()
        _settle(net.module, heads)
        with torch.no_grad():
            after, _ = tp.utils.count_ops_and_params(net.module, net.inputs)
        if after <= GOAL * before:
            break
    model = corpus.export(net, **entry.options)
    analysis = analyze(load(file))
    inputs = inputs_of(analysis)
    shapes = [np.shape(v) for v in outputs_of(analysis.original, inputs)]
    if [np.shape(v) for v in outputs_of(model, inputs)] != shapes:
        raise AssertionError("the outputs have other shapes")
    return {"reached": macs_of(model) / max(full, 1), "status": "runs", "ratio": ratio}


def _last(net: Any) -> list[Any]:
    """Layers whose results reach an output without another layer in between."""
    import torch

    layers = {
        p: m
        for m in net.module.modules()
        if isinstance(m, (torch.nn.Linear, torch.nn.modules.conv._ConvNd, torch.nn.Embedding))
        for p in m.parameters(recurse=False)
    }
    outputs = net.module(*net.inputs)
    ends = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    found, queue, seen = [], [y.grad_fn for y in ends], set()
    while queue:
        step = queue.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        owners = {
            id(layers[q.variable]): layers[q.variable]
            for q in _sources(step)
            if hasattr(q, "variable") and q.variable in layers
        }
        if owners and ("Backward" in step.name()) and _multiplies(step):
            found += owners.values()
        else:
            queue += [q for q, _ in step.next_functions]
    return found


def _multiplies(step: Any) -> bool:
    return any(k in step.name() for k in ("Convolution", "Addmm", "Mm", "Bmm", "Linear"))


def _sources(step: Any) -> Iterator[Any]:
    """What a step reads, through the transposes of weights."""
    for source, _ in step.next_functions:
        if source is None:
            continue
        yield source
        if source.name().startswith(("TBackward", "Transpose", "Permute")):
            yield from (q for q, _ in source.next_functions if q is not None)


def _attention(module: Any) -> Iterator[tuple[Any, int]]:
    """Projections and their number of heads, as the examples of Torch-Pruning set them."""
    for part in module.modules():
        heads = getattr(part, "num_heads", None) or getattr(part, "num_attention_heads", None)
        if isinstance(heads, int):
            for name in ("qkv", "query", "key", "value", "q_proj", "k_proj", "v_proj"):
                layer = getattr(part, name, None)
                if hasattr(layer, "out_features"):
                    yield layer, heads


def _settle(module: Any, heads: dict[Any, int]) -> None:
    """Tell the attention modules their new widths, as the examples of Torch-Pruning do."""
    for part in module.modules():
        fused, query = getattr(part, "qkv", None), getattr(part, "query", None)
        if fused in heads and hasattr(part, "head_dim"):
            part.head_dim = fused.out_features // (3 * part.num_heads)
        if query in heads and hasattr(part, "attention_head_size"):
            part.attention_head_size = query.out_features // heads[query]
            part.all_head_size = query.out_features
