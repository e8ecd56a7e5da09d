"""Weights that take their type from an activation are weights of that type."""

from typing import Any

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net

import onnxprune
from onnxprune.groups.analysis import analyze
from onnxprune.ir import cast_like, graph, normalize, runtime


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    "how", [{}, {"calib": "random", "calib_samples": 32, "distill": False}], ids=["free", "calib"]
)
def test_a_network_of_such_weights_reaches_half_of_its_multiplications(how: dict[str, Any]) -> None:
    model = NETWORKS["weights_cast_like_activations"]()
    result = onnxprune.prune(model, {"macs": 0.5}, latency=False, **how)
    assert result.report.proof.passed and result.report.achieved["macs"] <= 0.5
    assert "CastLike" not in kinds(result.model)
    assert any("cast to at run time" in note for note in result.report.notes)


def test_the_filled_biases_take_up_what_is_removed() -> None:
    model = NETWORKS["weights_cast_like_activations"]()
    result = onnxprune.prune(model, {"macs": 0.5}, latency=False, round_to=1)
    (note,) = [note for note in result.report.notes if "no data was used" in note]
    assert "6 layers make up" in note  # all but those in front of a normalisation


def test_another_type_becomes_a_plain_cast() -> None:
    net = Net(18, x=("N", 3))
    wide = net.op("Cast", "x", to=onnx.TensorProto.DOUBLE)
    net.op("MatMul", wide, net.op("CastLike", net.weight(3, 4), wide))
    net.op("Cast", net.nodes[-1].output[0], to=onnx.TensorProto.FLOAT)
    model = net.model(net.nodes[-1].output[0])
    new, count = cast_like.settle_types(model)
    assert count == 1 and kinds(new) == ["Cast", "Cast", "MatMul", "Cast"]
    assert analyze(model).roles.makes
    feeds = {"x": np.ones((2, 3), np.float32)}
    runs = [runtime.run(runtime.open_session(graph.model_bytes(m)), feeds) for m in (model, new)]
    for name, value in runs[0].items():
        np.testing.assert_array_equal(value, runs[1][name])


def test_activations_and_outputs_are_left_alone() -> None:
    net = Net(18, x=("N", 3))
    kept = net.op("CastLike", net.weight(2, 3), "x")
    moved = net.op("CastLike", "x", kept)
    model = net.model(kept, moved)
    new, _ = normalize.prepare(model)
    assert kinds(new) == ["Cast", "CastLike"]
    assert [output.name for output in new.graph.output] == [kept, moved]


def test_a_type_that_nobody_knows_leaves_the_cast() -> None:
    net = Net(18, x=("N", 3))
    odd = net.op("Odd", "x", domain="com.acme")
    model = net.model(net.op("MatMul", odd, net.op("CastLike", net.weight(3, 2), odd)))
    del model.graph.value_info[:]
    assert cast_like.settle_types(model)[0] is model
