"""What calibration reached of a model, and why not the rest."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net
from onnx import TensorProto, helper

import onnxprune
from onnxprune.groups.analysis import analyze
from onnxprune.groups.reach import UNTOUCHED, Part, Reach, refitted_part
from onnxprune.report.parts import plain, reach_lines


def several() -> Net:
    """Layers that least squares cannot refit, each for another reason."""
    net = Net(x=("N", 4, 8))
    tied = net.weight(8, 8, name="tied")
    y = net.op("MatMul", "x", tied)
    y = net.op("MatMul", net.op("Relu", y), tied)
    y = net.op("MatMul", y, net.op("Neg", net.weight(8, 8, name="turned")))
    return net


def test_every_layer_is_counted_with_a_reason():
    net = several()
    y = net.op("MatMul", net.nodes[-1].output[0], net.weight(8, 3, name="last"))
    part = refitted_part(analyze(net.model(y)), (), {})
    assert part.count == 4 and part.reached == 0
    assert list(part.left.values()) == [
        *["its weight is read by several operators"] * 2,
        "its weight is computed",
        "it has no bias of its own",
    ]


def test_what_was_tried_and_what_was_not():
    analysis = analyze(NETWORKS["captured_by_branches"]())
    part = refitted_part(analysis, (), {})
    assert set(part.left.values()) == {UNTOUCHED} and part.count == 4
    first = analysis.layers[0].node
    part = refitted_part(analysis, {first.outputs[0].name}, {})
    assert part.reached == 1 and first.name not in part.left
    failed = refitted_part(analysis, (), {first.outputs[0].name: "singular"})
    assert failed.left[first.name] == "singular"


def in_a_branch() -> onnx.ModelProto:
    """One branch has a layer of its own, which reads channels that can go."""
    net = Net(x=(1, 3, 8, 8), flag=(1,))
    y = net.conv(net.relu(net.conv("x", 3, 8)), 8, 12)
    weight = net.weight(12, 12, 1, 1, name="inside")
    bodies = [
        helper.make_graph([made], name, [], [onnx.ValueInfoProto(name=name)])
        for name, made in (
            ("t", helper.make_node("Conv", [y, weight], ["t"], "branched")),
            ("e", helper.make_node("Neg", [y], ["e"])),
        )
    ]
    asked = net.op("Squeeze", net.op("Cast", "flag", to=TensorProto.BOOL))
    z = net.op("If", asked, then_branch=bodies[0], else_branch=bodies[1])
    return net.model(net.conv(net.relu(z), 12, 4))


def test_a_layer_in_a_branch_keeps_its_weights():
    model, rng = in_a_branch(), np.random.default_rng(0)
    shapes = {"x": (1, 3, 8, 8), "flag": (1,)}
    samples = [
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(16)
    ]
    done = onnxprune.prune(model, {"macs": 0.7}, calib=samples, distill=1, latency=False)
    assert done.report.proof.passed
    left = done.report["calibration"]["layers"]["left"]
    assert "branch or loop" in left["branched"]


@pytest.mark.parametrize("name", ["chain", "captured_by_branches"])
def test_the_report_says_what_was_reached(name: str):
    model = NETWORKS[name]()
    rng = np.random.default_rng(0)
    sizes = {
        v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in model.graph.input
    }
    samples = [
        {key: rng.standard_normal(size).astype(np.float32) for key, size in sizes.items()}
        for _ in range(16)
    ]
    done = onnxprune.prune(model, {"macs": 0.7}, calib=samples, distill=1, latency=False)
    assert done.report.proof.passed
    found = done.report["calibration"]
    assert 0 < found["layers"]["refitted"] <= found["layers"]["count"]
    assert found["layers"]["refitted"] + len(found["layers"]["left"]) == found["layers"]["count"]
    assert found["groups"] == {"count": len(done.report.groups), "measured": 2, "left": {}}
    assert 0 < found["parameters"]["tuned"] <= found["parameters"]["count"]
    assert "reached   refitted" in done.report.text()
    sparse = onnxprune.sparsify(model, pattern="2:4", calib=samples, distill=1, latency=False)
    found = sparse.report["calibration"]
    assert found["layers"]["refitted"] > 0 and found["groups"] is None
    plain = onnxprune.prune(model, {"macs": 0.7}, latency=False)
    assert plain.report["calibration"] is None and "reached" not in plain.report.text()


def test_lines_name_what_was_left():
    layers = Part(5, 2, {"a": UNTOUCHED, "b": "odd", "c": "odd"})
    reach = Reach(layers, Part(2, 1, {"g": "its divergence is no finite number"}), Part(200, 50))
    assert plain(reach_lines(reach)).splitlines() == [
        "reached   refitted 2 of 5 layers, measured 1 of 2 groups, tuned 25.0% of parameters",
        "left      2 layers: odd",
        "left      1 group: its divergence is no finite number",
    ]
    assert list(reach_lines(None)) == []
    assert Reach(layers).values()["parameters"] is None
