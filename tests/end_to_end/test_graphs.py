"""Unusual graphs: bodies, functions, odd files, what is wrong with them; one test a property."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nested_networks
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS, Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from oracle import check_model

import onnxprune
from onnxprune import ops
from onnxprune.cli import main
from onnxprune.errors import InputError, OperatorError
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime, subgraphs
from onnxprune.ir import inputs as feeds

NESTED = [name for name, make in NETWORKS.items() if make.__module__ == nested_networks.__name__]


def outputs(model: ModelProto, seed: int = 0) -> dict[str, NDArray[Any]]:
    """What onnxruntime computes on seeded inputs."""
    analysis = analyze(model)
    inputs = feeds.seeded(analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, seed)
    return runtime.run(runtime.open_session(graph.model_bytes(model), optimize=False), inputs)


def pruned(model: ModelProto, **changes: Any) -> onnxprune.Result:
    return onnxprune.prune(model, {"macs": 0.6}, latency=False, **changes)


@pytest.mark.parametrize("name", NESTED)
def test_plans_are_replayed(name: str, tmp_path: Path) -> None:
    model, plan = NETWORKS[name](), tmp_path / "plan.json"
    result = onnxprune.prune(model, {"ratio": 0.7}, compensate=False, latency=False)
    plan.write_text(result.plan_json)
    again = onnxprune.apply(model, plan, latency=False)
    assert graph.model_bytes(again.model) == graph.model_bytes(result.model)
    assert onnxprune.check(model, result.model, latency=False).before.macs > 0
    left = sum(group.channels for group in analyze(result.model).groups)
    assert left == sum(row["kept"] for row in result.report.groups)


def zero_filters(model: ModelProto, names: list[str]) -> int:
    """Zero every second filter of stored convolutions and their biases; how many."""
    planted = 0
    for g in subgraphs.graphs(model.graph):
        for tensor in g.initializer:
            if tensor.name in names:
                values = numpy_helper.to_array(tensor).copy()
                values[::2] = 0
                planted += len(values[::2]) if values.ndim > 1 else 0
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return planted


def test_dead_filters_in_branches_go_without_loss() -> None:
    """What one branch alone sees dies there; what both return has to be dead in both."""
    model = NETWORKS["branches_with_weights"]()
    whole = sum(group.channels for group in analyze(model).groups)
    planted = zero_filters(model, ["c0", "c1", "in_c0", "in_c1"])
    result = onnxprune.prune(model, lossless=True, latency=False)
    gone = whole - sum(row["kept"] for row in result.report.groups)
    # 4 of the first layer, 3 inside one branch; the other's result is not dead at the same places
    assert planted == 4 + 3 + 5 and gone == 4 + 3
    left, right = outputs(model), outputs(result.model)
    for name, value in left.items():
        np.testing.assert_allclose(right[name], value, rtol=1e-5, atol=1e-6)


def chain() -> ModelProto:
    return NETWORKS["chain"]()


def backwards(m: ModelProto) -> None:
    nodes = list(m.graph.node)[::-1]
    del m.graph.node[:]
    m.graph.node.extend(nodes)


def other_domain(m: ModelProto) -> None:
    m.graph.node[1].domain, m.graph.node[1].op_type = "com.microsoft", "QuickGelu"


def twice(m: ModelProto) -> None:
    worse = TensorProto()
    worse.CopyFrom(m.graph.initializer[0])
    worse.raw_data = bytes(len(worse.raw_data))
    m.graph.initializer.insert(0, worse)


def wrong_declarations(m: ModelProto) -> None:
    for info in (m.graph.output[0], *m.graph.value_info):
        info.type.tensor_type.shape.dim[1].dim_value = 5


def without_names(m: ModelProto) -> None:
    m.graph.ClearField("name")
    for node in m.graph.node:
        node.name = ""


def one_name(m: ModelProto) -> None:
    for node in m.graph.node:
        node.name = "node"


def untyped_output(m: ModelProto) -> None:
    m.graph.output[0].ClearField("type")


def undeclared_weights(m: ModelProto) -> None:
    m.ir_version = 3


def unsorted_infos(m: ModelProto) -> None:
    infos = list(m.graph.value_info)[::-1]
    del m.graph.value_info[:]
    m.graph.value_info.extend([*infos, helper.make_tensor_value_info("nothing", 1, [3])])


ODD = [
    (backwards, "topologically sorted"),
    (other_domain, "No opset import for domain 'com.microsoft'"),
    (twice, "initializer name is not unique"),
    (wrong_declarations, ""),
    (without_names, "Field 'name' of 'graph'"),
    (one_name, ""),
    (untyped_output, "Field 'type' of 'value_info'"),
    (undeclared_weights, ""),
    (unsorted_infos, ""),
]


@pytest.mark.parametrize(("change", "complaint"), ODD, ids=[f.__name__ for f, _ in ODD])
def test_what_onnxruntime_runs_is_pruned(
    change: Callable[[ModelProto], None], complaint: str
) -> None:
    model = chain()
    change(model)
    result = pruned(model)
    assert result.report.proof.passed and result.report.after.macs < result.report.before.macs
    assert [complaint in w for w in result.report.warnings] == [True] * bool(complaint)
    assert bool(complaint) == ("but onnxruntime runs it" in result.report.text())
    runtime.open_session(graph.model_bytes(result.model))


def circular(m: ModelProto) -> None:
    m.graph.node[0].input[0] = m.graph.node[2].output[0]


def unknown_attribute(m: ModelProto) -> None:
    m.graph.node[0].attribute.append(helper.make_attribute("colour", 3))


def too_new(m: ModelProto) -> None:
    m.ir_version = 99


def no_opset(m: ModelProto) -> None:
    del m.opset_import[:]


def untyped_input(m: ModelProto) -> None:
    m.graph.input[0].ClearField("type")


REFUSED = [
    (circular, "cycle: 'n0' (Conv) ← 'n2' (Conv) ← 'n1' (Relu) ← 'n0' (Conv)"),
    (unknown_attribute, "Unrecognized attribute: colour"),
    (too_new, "and onnxruntime cannot load the model: Unsupported model IR version: 99"),
    (no_opset, "must specify opset_import"),
    (untyped_input, "Model input (x) does not have type information"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[f.__name__ for f, _ in REFUSED])
def test_what_makes_no_sense_is_refused_by_name(
    change: Callable[[ModelProto], None], message: str, tmp_path: Path
) -> None:
    model, path = chain(), tmp_path / "model.onnx"
    change(model)
    path.write_bytes(model.SerializeToString())
    out = tmp_path / "out.onnx"
    for words in (["inspect", path], ["prune", path, out, "--target", "macs=0.6"]):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 2, result.output
        assert message in result.output and result.output.count("\n") == 1
    assert not out.exists()


def test_nodes_of_bodies_may_be_in_any_order() -> None:
    model = NETWORKS["branches_in_branches"]()
    for g in list(subgraphs.graphs(model.graph)):
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in g.node][::-1]
        del g.node[:]
        g.node.extend(nodes)
    assert check_model(model) == check_model(NETWORKS["branches_in_branches"]())


@pytest.mark.parametrize("domain", ["", "own"])
def test_an_operator_that_onnxruntime_lacks(domain: str, tmp_path: Path) -> None:
    """It is named, and the model looked at; without a proof nothing is written."""
    n = Net(x=(2, 6))
    y = n.op("Mystery", n.gemm(n.relu(n.gemm("x", 6, 8)), 8, 4), domain=domain)
    model, path = n.model(n.gemm(y, 4, 2)), tmp_path / "model.onnx"
    known = helper.make_tensor_value_info(model.graph.output[0].name, 1, [2, 2])
    model.graph.output[0].CopyFrom(known)
    onnx.save(model, path)
    key = "own:Mystery" if domain else "Mystery"
    result = CliRunner().invoke(main, ["inspect", str(path)])
    assert result.exit_code == 0 and f"no rule for operator {key}" in result.output
    assert "8 channels" in result.output
    with pytest.raises(OperatorError, match=rf"{key}.*is no proof.*--custom-ops"):
        pruned(model)
    missing = tmp_path / "missing.so"
    words = ["inspect", str(path), "--custom-ops", str(missing)]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2 and "not a library of custom operators" in refused.output


def test_a_doubtful_model_gives_a_warning_beside_the_result(tmp_path: Path) -> None:
    model, path, out = chain(), tmp_path / "model.onnx", tmp_path / "out.onnx"
    backwards(model)
    path.write_bytes(model.SerializeToString())
    words = ["prune", str(path), str(out), "--target", "macs=0.6", "--no-latency", "--report", "-"]
    for command in (words, ["inspect", str(path), "--json"], ["check", str(path), str(path)]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert "Warning: " in result.stderr and "onnxruntime runs it" in result.stderr
        assert "Warning" not in result.stdout


def same_output_twice() -> ModelProto:
    model = chain()
    model.graph.output.append(model.graph.output[0])
    return model


def input_is_an_output() -> ModelProto:
    model = chain()
    model.graph.output.append(model.graph.input[0])
    return model


def weight_is_an_output() -> ModelProto:
    model = chain()
    tensor = model.graph.initializer[2]
    model.graph.output.append(helper.make_tensor_value_info("c2", 1, tensor.dims))
    return model


def output_is_read_inside() -> ModelProto:
    model = chain()
    inside = next(i for i in model.graph.value_info if i.name == model.graph.node[1].output[0])
    model.graph.output.append(inside)
    return model


def many_ends() -> ModelProto:
    n = Net(a=("N", 3, "H", "W"), b=("N", 3, "H", "W"), c=("M", 6))
    y = n.op("Add", n.conv("a", 3, 8), n.conv("b", 3, 8))
    z = n.relu(n.gemm("c", 6, 10))
    mean = n.op("ReduceMean", n.conv(n.relu(y), 8, 12), axes=[2, 3], keepdims=0)
    return n.model(n.conv(n.relu(y), 8, 2), n.gemm(mean, 12, 3), n.gemm(z, 10, 4), n.relu(z))


def all_dynamic() -> ModelProto:
    n = Net(x=("N", 3, "H", "W"))
    y = n.relu(n.conv("x", 3, 8))
    shape = n.op("Shape", y)
    ends = [n.op("Gather", shape, n.const(np.array([k]))) for k in (0, 2, 3)]
    flat = n.op("Concat", ends[0], n.const(np.array([8, -1])), axis=0)
    back = n.op("Concat", ends[0], n.const(np.array([8])), *ends[1:], axis=0)
    y = n.op("Reshape", n.op("Softplus", n.op("Reshape", y, flat)), back)
    return n.model(n.conv(y, 8, 4))


ENDS = {
    same_output_twice: 32,
    input_is_an_output: 32,
    weight_is_an_output: 0,
    output_is_read_inside: 16,
    many_ends: 8 + 12,
    all_dynamic: 8,
}


@pytest.mark.parametrize(
    ("make", "channels"), ENDS.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_inputs_and_outputs_of_all_kinds(make: Callable[[], ModelProto], channels: int) -> None:
    model = make()
    assert check_model(model) == channels
    if channels:
        result = onnxprune.prune(model, {"ratio": 0.6}, latency=False)
        assert graph.interface(result.model) == graph.interface(model)
        onnx.checker.check_model(result.model, full_check=True)
        for seed in range(2):
            assert outputs(result.model, seed).keys() == outputs(model, seed).keys()


def test_any_size_runs_after_pruning() -> None:
    result = pruned(all_dynamic())
    session = runtime.open_session(graph.model_bytes(result.model))
    for shape in ((1, 3, 5, 9), (4, 3, 1, 1), (2, 3, 300, 2)):
        x = np.ones(shape, np.float32)
        assert next(iter(runtime.run(session, {"x": x}).values())).shape == (
            shape[0],
            4,
            *shape[2:],
        )


def test_a_list_as_input_is_refused() -> None:
    n = Net(x=("N", 6))
    y = n.op("SequenceAt", "several", n.const(np.array(0)))
    model = n.model(n.gemm(n.op("Add", n.gemm("x", 6, 4), y), 4, 2))
    kind = helper.make_tensor_type_proto(1, None)
    several = helper.make_value_info("several", helper.make_sequence_type_proto(kind))
    model.graph.input.append(several)
    shape = helper.make_tensor_value_info(model.graph.output[0].name, 1, ["N", 2])
    model.graph.output[0].CopyFrom(shape)
    assert analyze(model).groups == ()
    with pytest.raises(InputError, match="input 'several' is no tensor"):
        pruned(model)
