"""Models in eight-bit integers: what stays, what is refused, and that no zero is lost."""

import contextlib

import numpy as np
import onnx
import pytest
from networks import NETWORKS, samples_of

import onnxprune
from onnxprune import InputError, ProofError
from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.ir import graph, runtime, tensors
from onnxprune.pipeline.quantize import Quantization, evenly_spread, prove_zeros, quantize


def test_a_lost_zero_is_noticed():
    model = NETWORKS["chain"]()
    data = calibration(samples_of(model, np.random.default_rng(0)), model)
    made = quantize(model, Quantization(), data)
    before = onnx.ModelProto()
    before.CopyFrom(model)
    for tensor in before.graph.initializer:
        if len(tensor.dims) > 1:
            zeros = np.zeros(tuple(tensor.dims), np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    with pytest.raises(ProofError, match="lost zeros"):
        prove_zeros(before, made)


def test_what_the_quantizer_adds_has_short_names():
    model = NETWORKS["chain"]()
    data = calibration(samples_of(model, np.random.default_rng(0)), model)
    made = quantize(model, Quantization(), data)
    assert [v.name for v in made.graph.output] == [v.name for v in model.graph.output]
    scales = {node.input[1] for node in made.graph.node if "quantize" in node.op_type.lower()}
    assert scales and all(name.startswith("q:") for name in scales)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_pruned_model_can_be_quantized(name):
    model = NETWORKS[name]()
    data = calibration("random", model, onnxprune.Settings(calib_samples=6))
    with contextlib.suppress(onnxprune.OnnxpruneError):  # some have nothing to prune
        model = onnxprune.prune(model, {"macs": 0.7}, latency=False).model
    made = quantize(model, Quantization(), data)
    before, after = (
        runtime.run(runtime.open_session(graph.model_bytes(m)), data.batches[0])
        for m in (model, made)
    )
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [(Quantization(), "give calib"), (Quantization("half"), "unknown mode 'half'")],
)
def test_options_that_cannot_be(options: Quantization, message: str):
    with pytest.raises(InputError, match=message):
        quantize(NETWORKS["chain"](), options)


def test_excluded_nodes_stay_as_they_are():
    model = NETWORKS["chain"]()
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    made = quantize(model, Quantization("dynamic", exclude=[first.name]))
    weights = {tensor.name: tensors.array(tensor) for tensor in made.graph.initializer}
    kept = {t.name: tensors.array(t) for t in model.graph.initializer if len(t.dims) > 1}
    same = {
        name
        for name, value in kept.items()
        if name in weights and np.array_equal(weights[name], value)
    }
    assert same == {first.input[1]}


def test_ranges_are_taken_from_evenly_spread_batches():
    data = Calibration(tuple({"x": np.array(k)} for k in range(100)), (64,) * 100, "", "")
    assert [int(feeds["x"]) for feeds in evenly_spread(data)] == [0, 25, 50, 75]
    assert len(evenly_spread(Calibration(({},) * 3, (64,) * 3, "", ""))) == 3


@pytest.mark.parametrize(
    ("mode", "axes"), [("static", (1, 2, 3)), ("dynamic", (0, 1, 2, 3))]
)  # onnxruntime's integer convolution knows one scale of all channels
def test_weights_become_symmetric_integers_near_what_they_were(
    mode: str, axes: tuple[int, ...]
) -> None:
    model = NETWORKS["chain"]()
    data = calibration(samples_of(model, np.random.default_rng(0)), model)
    stored = graph.constants(quantize(model, Quantization(mode, full_range=True), data))
    for name in ("c0", "c2", "c4"):
        integers = tensors.array(stored[f"{name}_quantized"])
        reals = tensors.array(graph.constants(model)[name])
        steps = np.abs(reals).max(axes, keepdims=True) / 127
        assert integers.dtype == np.int8
        assert (np.abs(integers * steps - reals) <= 0.51 * steps).all()


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_outputs_stay_near_those_of_the_model(mode: str) -> None:
    model = NETWORKS["pooled_classifier"]()
    data = calibration(samples_of(model, np.random.default_rng(0)), model)
    made = quantize(model, Quantization(mode), data)
    ((before,), (after,)) = (
        runtime.run(runtime.open_session(graph.model_bytes(m)), data.batches[0]).values()
        for m in (model, made)
    )
    # eight bits of three layers: a few percent of the largest value
    assert 0 < np.abs(after - before).max() < 0.06 * np.abs(before).max()


def test_what_the_quantizer_does_not_take_is_said() -> None:
    """Samples of another model, which it feeds all the same."""
    other = NETWORKS["two_inputs"]()
    data = calibration(samples_of(other, np.random.default_rng(0)), other)
    with pytest.raises(InputError, match=r"onnxruntime's quanti.er does not take the model: .*z"):
        quantize(NETWORKS["chain"](), Quantization(), data)
