"""Two models side by side, and the gate: what counts as a drop, and what is refused."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS
from present import present
from running import samples

import onnxprune
from onnxprune import GateError, InputError
from onnxprune.pipeline.check import gate

MODEL = NETWORKS["residual_spine"]()
FEEDS = samples(MODEL)


def scaled(share: float) -> onnx.ModelProto:
    """The network with its last bias moved."""
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    name = model.graph.node[-1].input[2]
    (bias,) = (t for t in model.graph.initializer if t.name == name)
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += share
    bias.CopyFrom(onnx.numpy_helper.from_array(values, name))
    return model


def test_a_model_equals_itself():
    result = onnxprune.check(MODEL, MODEL, latency=False)
    assert result.drop == 0 and result.latency_ratio is None
    assert result.before == result.after and result.comparison.drift.samples == 32
    gate(result, 0.0, None)


def test_without_labels_the_worst_of_drift_counts():
    result = onnxprune.check(MODEL, scaled(100.0), latency=False, data=FEEDS)
    drift = result.comparison.drift
    assert drift.accuracy is None and drift.agreement is not None
    assert result.drop == 1 - min(drift.cosine, drift.agreement) > 0.1
    assert result.values()["drop"] == result.drop


def test_with_labels_the_fall_in_top_1_counts():
    labels = np.full(64, 3)
    result = onnxprune.check(MODEL, scaled(100.0), latency=False, data={**FEEDS, "labels": labels})
    before, after = present(result.comparison.drift.accuracy)
    assert after == 0 and result.drop == before


def test_the_gate_names_every_limit():
    result = onnxprune.check(MODEL, scaled(100.0), data=FEEDS)
    assert result.latency_ratio is not None
    with pytest.raises(GateError, match=r"drop [\d.]+ is above 0.05; latency ratio .* above 0.001"):
        gate(result, 0.05, 0.001)
    gate(result, 2.0, 1000.0)  # a cosine may be below zero


def test_models_that_do_not_belong_together():
    with pytest.raises(InputError, match=r"the models differ at .* Compare a model"):
        onnxprune.check(MODEL, NETWORKS["two_inputs"](), latency=False)
