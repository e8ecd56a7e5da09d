"""Residual blocks that keep no channel: exactly the shortcut and a bias are left."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from cuts import cut_to, emptied, fewer, masks_without
from networks import NETWORKS
from numpy.typing import NDArray
from text_models import bottleneck, stored_array, text_model

from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime
from onnxprune.settings import Settings
from onnxprune.surgery.cut import running
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import ProofRun
from onnxprune.surgery.prove_cut import prove_cut
from onnxprune.surgery.remove_blocks import gone_blocks, without

X = {"x": np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)}
WITH_BLOCKS = [
    "residual_spine", "pad_shortcut", "inverted_residual", "split_and_concat", "tied_embedding",
    "vision_transformer", "gpt_with_tied_head", "llama", "llama_of_opset_23", "window_attention",
    "t5_with_relative_bias", "clip_towers", "decoder_as_onnxruntime_fuses_it",
]  # fmt: skip


def outputs(model: onnx.ModelProto) -> NDArray[Any]:
    (y,) = runtime.run(runtime.open_session(graph.model_bytes(model)), X).values()
    return y


def silenced(model: onnx.ModelProto, *weights: str) -> onnx.ModelProto:
    """The model with zeros in some weights."""
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.raw_data = bytes(len(tensor.raw_data))
    return model


def test_a_block_goes_when_all_its_groups_are_empty() -> None:
    analysis = analyze(bottleneck())
    (block,) = analysis.blocks.values()
    assert {analysis.groups[g].name for g in block.inside} == {"w1", "w2"}
    assert gone_blocks(analysis, emptied(analysis, *block.inside)) == [block]
    assert gone_blocks(analysis, emptied(analysis, block.root)) == []
    assert gone_blocks(analysis, masks_without(analysis)) == []


def test_the_shortcut_and_the_last_bias_are_left() -> None:
    model = bottleneck()
    analysis = analyze(model)
    smaller = without(analysis.model, list(analysis.blocks.values()))
    assert [node.op_type for node in smaller.graph.node] == ["Gemm", "Add", "Gemm"]
    assert {t.name for t in smaller.graph.initializer} == {"w0", "b0", "l", "w4", "b4"}
    assert stored_array(smaller, "l").tolist() == [stored_array(model, "b3").tolist()]
    np.testing.assert_allclose(outputs(smaller), outputs(silenced(model, "w3")), rtol=1e-6)


def test_what_stands_behind_the_last_layer_is_computed_from_its_bias() -> None:
    text = """
    net (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] z) {
        s = Conv (x, a)
        h = Conv (s, b)
        i = Relu (h)
        j = Conv (i, c, bias)
        k = BatchNormalization (j, scale, shift, mean, var)
        l = Mul (k, half)
        y = Add (s, l)
        z = Conv (y, d)
    }
    """
    four = dict.fromkeys(("bias", "scale", "shift", "mean", "var"), (4,))
    kernels = {"a": (4, 3, 1, 1), "b": (5, 4, 1, 1), "c": (4, 5, 1, 1), "d": (2, 4, 1, 1)}
    analysis = analyze(text_model(text, half=np.array(0.5, np.float32), **four, **kernels))
    (block,) = analysis.blocks.values()
    assert block.layer == "j" and block.chain == ("k", "l")
    smaller = without(analysis.model, [block])
    assert [node.op_type for node in smaller.graph.node] == ["Conv", "Add", "Conv"]
    b, gamma, beta, mean, var = (stored_array(analysis.model, name) for name in four)
    expected = 0.5 * (gamma * (b - mean) / np.sqrt(var + 1e-5) + beta)
    np.testing.assert_allclose(stored_array(smaller, "l").reshape(4), expected, rtol=1e-5)
    assert stored_array(smaller, "l").shape == (1, 4, 1, 1)


NESTED = """
net (float[N, 3] x) => (float[N, 2] z) {
    s = Gemm <transB = 1> (x, w0, b0)
    h = Gemm <transB = 1> (s, w1, b1)
    i = Relu (h)
    j = Gemm <transB = 1> (i, w2, b2)
    k = Gemm <transB = 1> (j, w3, b3)
    m = Add (i, k)
    l = Gemm <transB = 1> (m, w4, b4)
    y = Add (s, l)
    z = Gemm <transB = 1> (y, w5, b5)
}
"""


def test_a_block_inside_of_one_that_goes_needs_no_removal_of_its_own() -> None:
    shapes = [(4, 3), (6, 4), (5, 6), (6, 5), (4, 6), (2, 4)]
    stored = {f"w{k}": shape for k, shape in enumerate(shapes)}
    biases = {f"b{k}": shape[:1] for k, shape in enumerate(shapes)}
    model = text_model(NESTED, **stored, **biases)
    analysis = analyze(model)
    inner, outer = sorted(analysis.blocks.values(), key=lambda block: len(block.inside))
    assert set(inner.inside) < set(outer.inside)
    kept = emptied(analysis, *outer.inside)
    assert gone_blocks(analysis, kept) == [outer]
    assert gone_blocks(analysis, emptied(analysis, *inner.inside)) == [inner]
    stage = cut_to(analysis, kept)
    assert [node.op_type for node in stage.model.graph.node] == ["Gemm", "Add", "Gemm"]
    np.testing.assert_allclose(outputs(stage.model), outputs(silenced(model, "w4")), rtol=1e-6)


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_every_block_can_go_alone_and_with_all_others(name: str) -> None:
    analysis, rng = analyze(NETWORKS[name]()), np.random.default_rng(0)
    blocks = analysis.blocks
    everything = {g for block in blocks.values() for g in block.inside}
    for inside in [*(set(block.inside) for block in blocks.values()), everything]:
        stage = cut_to(analysis, fewer(analysis, inside, rng))
        assert stage.proof.passed
        onnx.checker.check_model(stage.model, full_check=True)
        left = {name for node in stage.model.graph.node for name in node.output}
        for block in blocks.values():
            gone = block.root in inside
            assert (block.layer in left) != gone and (block.addend in left) != gone
    assert blocks


@pytest.mark.parametrize("change", [lambda rest: rest + 0.1, lambda rest: 0 * rest])
def test_a_wrong_rest_fails_the_proof(
    change: Callable[[NDArray[Any]], NDArray[Any]],
) -> None:
    """What is left of a block is not its bias: the proof of the same plan fails."""
    analysis = analyze(bottleneck())
    (block,) = analysis.blocks.values()
    plan = plan_of(analysis.groups, emptied(analysis, *block.inside))
    smaller = without(analysis.model, [block])
    (rest,) = (tensor for tensor in smaller.graph.initializer if tensor.name == block.addend)
    wrong = onnx.ModelProto.FromString(smaller.SerializeToString())
    for tensor in (t for t in wrong.graph.initializer if t.name == rest.name):
        values = change(onnx.numpy_helper.to_array(rest)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, rest.name))
    with running(analysis, Settings()) as original:
        for model, passed in ((smaller, True), (wrong, False)):
            run = ProofRun(model)
            proof = prove_cut(analysis, plan, original, run, run.run(original.inputs))
            assert proof.passed == passed


def test_a_block_and_single_channels_go_in_one_cut() -> None:
    analysis = analyze(bottleneck())
    stage = cut_to(analysis, masks_without(analysis, w0=[1], w1=range(6), w2=range(5)))
    assert stored_array(stage.model, "l").shape == (1, 3)
    assert stored_array(stage.model, "w0").shape == (3, 3)
    assert stage.proof.passed
