"""Eight-bit integers by onnxruntime's quantiser: what it gets, and what comes back."""

import contextlib

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net, samples_of
from onnx import ModelProto, TensorProto

import onnxprune
from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.errors import InputError, ProofError
from onnxprune.ir import graph, runtime, tensors
from onnxprune.pipeline import quantize
from onnxprune.pipeline.quantize import Quantization

DYNAMIC = Quantization("dynamic")


def data_for(model: ModelProto) -> Calibration:
    return calibration(samples_of(model, np.random.default_rng(0)), model)


def weights(model: ModelProto) -> dict[str, TensorProto]:
    """Weights that became integers, by the name that they had."""
    return {
        name.removesuffix(quantize.SUFFIX): tensor
        for name, tensor in graph.constants(model).items()
        if name.endswith(quantize.SUFFIX) and len(tensor.dims) > 1
    }


@pytest.mark.parametrize(
    ("mode", "axes"), [("static", (1, 2, 3)), ("dynamic", (0, 1, 2, 3))]
)  # onnxruntime's integer convolution knows one scale of all channels
def test_weights_become_symmetric_integers_near_what_they_were(
    mode: str, axes: tuple[int, ...]
) -> None:
    model = NETWORKS["chain"]()
    made = quantize.quantize(model, Quantization(mode), data_for(model))
    assert weights(made).keys() == {"c0", "c2", "c4"}
    before = graph.constants(model)
    for name, tensor in weights(made).items():
        integers, reals = tensors.array(tensor), tensors.array(before[name])
        assert integers.dtype == np.int8
        steps = np.abs(reals).max(axes, keepdims=True) / 127
        assert (np.abs(integers * steps - reals) <= 0.51 * steps).all()


@pytest.mark.parametrize("mode", quantize.MODES)
def test_outputs_stay_near_those_of_the_model(mode: str) -> None:
    model = NETWORKS["pooled_classifier"]()
    data = data_for(model)
    before, after = (
        next(
            iter(runtime.run(runtime.open_session(graph.model_bytes(m)), data.batches[0]).values())
        )
        for m in (model, quantize.quantize(model, Quantization(mode), data))
    )
    # eight bits of three layers: a few percent of the largest value
    assert np.abs(after - before).max() < 0.06 * np.abs(before).max()
    assert not np.array_equal(before, after)


def test_nodes_that_are_excluded_stay_as_they_are() -> None:
    model = NETWORKS["chain"]()
    made = quantize.quantize(model, Quantization(exclude=["n2"]), data_for(model))
    assert weights(made).keys() == {"c0", "c4"}
    old, new = (tensors.array(graph.constants(m)["c2"]) for m in (model, made))
    assert np.array_equal(old, new)


@pytest.mark.parametrize(("per_channel", "opset", "scales"), [(True, 17, 16), (False, 17, 1)])
def test_each_output_channel_has_its_scale_if_that_is_asked_for(
    per_channel: bool, opset: int, scales: int
) -> None:
    n = Net(opset, x=("N", 3, 8, 8))
    model = n.model(n.conv("x", 3, 16))
    made = quantize.quantize(model, Quantization(per_channel=per_channel), data_for(model))
    stored = graph.constants(made)
    (node,) = (n for n in made.graph.node if n.input[0] == f"c0{quantize.SUFFIX}")
    assert tensors.array(stored[node.input[1]]).size == scales


def test_the_model_given_stays_as_it_is() -> None:
    model = NETWORKS["residual_spine"]()
    before = model.SerializeToString(deterministic=True)
    quantize.quantize(model, DYNAMIC)
    assert model.SerializeToString(deterministic=True) == before


def test_an_unknown_mode_and_missing_samples_are_refused() -> None:
    model = NETWORKS["chain"]()
    with pytest.raises(InputError, match=r"unknown mode 'dynamik' of quantise. There are: static"):
        quantize.quantize(model, Quantization("dynamik"))
    with pytest.raises(InputError, match="the static mode takes ranges from samples: give calib"):
        quantize.quantize(model, Quantization())
    assert weights(quantize.quantize(model, DYNAMIC))


def test_what_the_quantiser_does_not_take_is_said() -> None:
    """Samples of another model, which the quantiser feeds all the same."""
    other = data_for(NETWORKS["two_inputs"]())
    with pytest.raises(InputError, match=r"onnxruntime's quantiser does not take the model: .*z"):
        quantize.quantize(NETWORKS["chain"](), Quantization(), other)


def test_a_lost_zero_is_noticed() -> None:
    model = NETWORKS["chain"]()
    made = quantize.quantize(model, Quantization(), data_for(model))
    before = onnx.ModelProto()
    before.CopyFrom(model)
    quantize.keeps_zeros(before, made)
    for tensor in before.graph.initializer:
        if len(tensor.dims) > 1:
            zeros = np.zeros(tuple(tensor.dims), np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    with pytest.raises(ProofError, match="quantising lost zeros of 'c0': nothing was written"):
        quantize.keeps_zeros(before, made)


def test_what_the_quantiser_adds_has_short_names() -> None:
    model = NETWORKS["chain"]()
    made = quantize.quantize(model, Quantization(), data_for(model))
    assert [v.name for v in made.graph.output] == [v.name for v in model.graph.output]
    scales = {node.input[1] for node in made.graph.node if "quantize" in node.op_type.lower()}
    assert scales and all(name.startswith("q:") for name in scales)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_pruned_model_can_be_quantised(name: str) -> None:
    model = NETWORKS[name]()
    data = calibration("random", model, onnxprune.Settings(calib_samples=6))
    with contextlib.suppress(onnxprune.OnnxpruneError):  # some have nothing to prune
        model = onnxprune.prune(model, {"macs": 0.7}, latency=False).model
    made = quantize.quantize(model, Quantization(), data)
    before, after = (
        runtime.run(runtime.open_session(graph.model_bytes(m)), data.batches[0])
        for m in (model, made)
    )
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
