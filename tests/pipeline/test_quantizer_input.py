"""Models that are quantised already, wholly or in part, and names that the quantiser takes."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS
from onnx.numpy_helper import from_array
from running import outputs

from onnxprune.calibration.samples import calibration
from onnxprune.errors import InputError
from onnxprune.pipeline.quantize import Quantization, quantize
from onnxprune.pipeline.quantizer_input import with_free_names

SAMPLES = {"x": np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)}


def half_quantized() -> onnx.ModelProto:
    """A product with integers, whose tensors are named as by the quantiser, and one with reals."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,4] x) => (float[N,4] y) {
            h_quantized = QuantizeLinear(x, h_scale, h_zero_point)
            h_DequantizeLinear_Output = DequantizeLinear(h_quantized, h_scale, h_zero_point)
            v = DequantizeLinear(v_quantized, v_scale)
            h = MatMul(h_DequantizeLinear_Output, v)
            y = MatMul(h, w)
        }""")
    draw = np.random.default_rng(1)
    stored = {
        "h_scale": np.float32(0.02), "h_zero_point": np.uint8(128), "v_scale": np.float32(0.01),
        "v_quantized": draw.integers(-99, 99, (4, 4), np.int8),
        "w": draw.normal(size=(4, 4)).astype(np.float32),
    }  # fmt: skip
    model.graph.initializer.extend(from_array(np.asarray(v), k) for k, v in stored.items())
    return model


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_names_of_an_earlier_quantiser_do_not_clash(mode: str) -> None:
    model = half_quantized()
    before = outputs(model, SAMPLES)
    done = quantize(model, Quantization(mode), calibration(SAMPLES, model))
    assert any(tensor.name.startswith("w_quantized") for tensor in done.graph.initializer)
    assert np.abs(outputs(done, SAMPLES) - before).max() < 0.1 * np.abs(before).max()


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_model_that_is_quantised_already_is_refused(mode: str) -> None:
    model = NETWORKS["squeeze_and_excite"]()
    feeds = calibration("random", model)
    done = quantize(model, Quantization("static"), feeds)
    with pytest.raises(InputError, match=r"quantised already, as at .* Leave out the stage"):
        quantize(done, Quantization(mode), feeds)


def test_names_of_inputs_outputs_and_bodies_stay() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N] x_scale, bool c) => (float[N] y_quantized) {
            a_scale = Relu(x_scale)
            b_scale = Relu(a_scale)
            y_quantized = If (c) <
                then_branch = t () => (float[N] p) { p = Neg(b_scale) },
                else_branch = e () => (float[N] q) { q = Abs(b_scale) }>
        }""")
    done = with_free_names(model)
    assert [name for node in done.graph.node for name in node.output] == [
        "n:0", "b_scale", "y_quantized",
    ]  # fmt: skip
    assert model.graph.node[0].output[0] == "a_scale"


def test_what_the_quantiser_makes_is_not_blamed_on_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with real numbers of 16 bits before opset 19."""
    broken = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float16[N,4] x, float16 s) => (float16[N,4] y) { y = QuantizeLinear(x, s) }""")
    write = lambda ready, made, *_: onnx.save(broken, made)  # noqa: E731
    monkeypatch.setattr("onnxprune.pipeline.quantize._run_quantizer", write)
    model = half_quantized()
    with pytest.raises(InputError, match=r"its quantiser makes .*float16.* Leave out the stage"):
        quantize(model, Quantization("static"), calibration(SAMPLES, model))


def test_a_softmax_behind_an_operator_of_onnxruntime() -> None:
    """ONNX knows no kind of its result, which the quantiser needs."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[N,4] x) => (float[N,4] y) {
            a = com.microsoft.QuickGelu(x)
            b = Softmax(a)
            y = MatMul(b, w)
        }""")
    model.graph.initializer.append(from_array(np.eye(4, dtype=np.float32), "w"))
    before = outputs(model, SAMPLES)
    done = quantize(model, Quantization("static"), calibration(SAMPLES, model))
    assert np.abs(outputs(done, SAMPLES) - before).max() < 0.02
