"""What must hold of every valid model, as functions of a random one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from oracle import UNKNOWN, check_model, operators
from random_graphs import Random

import onnxprune
from onnxprune import ops
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import exact_products, graph, runtime, tensors
from onnxprune.ir import inputs as feeds
from onnxprune.settings import Settings
from onnxprune.surgery import lossless
from onnxprune.surgery.cut import cut_lossless, running

__all__ = ["as_built", "planted_goes", "pruned_is_masked"]


def valid(model: onnx.ModelProto) -> None:
    """Assert that onnx's checker takes a model, if it knows its operators."""
    if not UNKNOWN & operators(model):
        onnx.checker.check_model(model, full_check=True)


def as_built(drawn: Random) -> None:
    """The graph is valid and computes finite outputs of the sizes that it was built for."""
    valid(drawn.model)
    analysis = analyze(drawn.model, Settings(input_shapes=drawn.sizes))
    for name, value in _run(drawn.model, _inputs(analysis, drawn)).items():
        assert value.shape == drawn.outputs[name]
        assert np.isfinite(value).all()


def pruned_is_masked(drawn: Random, inexact: bool = False) -> int:
    """Whatever channels go, the rest computes what it did; how many there are to choose from.

    If `inexact`, normalisations may lose channels too: their statistics are those of what is left.
    """
    return check_model(drawn.model, 2, drawn.sizes, drawn.seed, inexact)


def planted_goes(drawn: Random) -> tuple[int, int]:
    """Channels of zeros go without a trace: how many were planted, how many went."""
    analysis = analyze(drawn.model, Settings(input_shapes=drawn.sizes))
    planted = _plant(drawn.model, analysis, np.random.default_rng(drawn.seed))
    inputs = _inputs(analysis, drawn)
    before = _run(drawn.model, inputs)
    if not all(np.isfinite(value).all() for value in before.values()):
        return 0, 0  # a norm of zeros: there is nothing to compare with
    result = onnxprune.prune(
        drawn.model, lossless=True, latency=False, input_shapes=drawn.sizes, seed=1
    )
    after = _run(result.model, inputs)
    for name, value in before.items():
        scale = max(float(np.abs(value).max(initial=0.0)), 1e-12)
        # the same sums in another order
        if np.abs(after[name] - value).max(initial=0.0) > lossless.TOLERANCE * scale:
            assert drawn.operators().keys() & ops.JUMPS, name
            _proved(drawn, seed=2)  # a last bit more or less, and another step
    valid(result.model)
    return planted, sum(row["channels"] - row["kept"] for row in result.report.groups)


def _proved(drawn: Random, seed: int) -> None:
    """Removal without loss is proved on inputs of another seed, in pieces if need be."""
    options = Settings(input_shapes=drawn.sizes, seed=seed)
    analysis = analyze(drawn.model, options)
    with running(analysis, options) as original:
        cut_lossless(analysis, options, original)


def _plant(model: onnx.ModelProto, analysis: Analysis, rng: np.random.Generator) -> int:
    """Set random channels to zero in all weights and biases that make them; how many."""
    biases = {
        node.input[2] for node in model.graph.node
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2
    }  # fmt: skip
    planted, stored = (
        0,
        {
            name: tensor
            for name, tensor in graph.constants(model).items()
            if np.issubdtype(
                tensors.array(tensor).dtype, np.floating
            )  # an integer 0 may mean another
        },
    )
    for group in analysis.groups:
        dead = rng.random(group.channels) < rng.uniform(0, 0.6)
        axes = [
            (a, at) for a, at in group.axes() if a in analysis.roles.makes or a.tensor in biases
        ]
        if not dead.any() or any(axis.tensor not in stored for axis, _ in axes):
            continue
        planted += int(dead.sum())
        for axis, positions in axes:
            tensor = stored[axis.tensor]
            values = tensors.array(tensor).copy()
            np.moveaxis(values, axis.axis, 0)[positions[dead].ravel()] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return planted


def _inputs(analysis: Analysis, drawn: Random) -> feeds.Feeds:
    return feeds.seeded(drawn.model, ops.index_bounds(analysis.nodes), drawn.sizes, 2)


def _run(model: onnx.ModelProto, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    content = graph.model_bytes(exact_products.exact(plain, ops.PAIRS))
    return runtime.run(runtime.open_session(content, optimize=False), inputs)
