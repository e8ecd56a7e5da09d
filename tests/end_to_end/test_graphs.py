"""Unusual graphs: bodies, functions, odd files, what is wrong with them; one test a property."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nested_networks
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from nested_networks import Inner, positive
from networks import NETWORKS, Net
from onnx import ModelProto, TensorProto, helper, numpy_helper
from oracle import check_model

import onnxprune
from onnxprune import ops
from onnxprune.cli import main
from onnxprune.errors import InputError, OperatorError
from onnxprune.groups.analysis import analyze, blocked
from onnxprune.ir import graph, normalize, runtime, subgraphs
from onnxprune.ir import inputs as feeds
from onnxprune.ops.registry import free, same_but

NESTED = [name for name, make in NETWORKS.items() if make.__module__ == nested_networks.__name__]


def outputs(model: ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """What onnxruntime computes on seeded inputs."""
    analysis = analyze(model)
    inputs = feeds.seeded(analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, seed)
    return runtime.run(runtime.open_session(graph.model_bytes(model), optimize=False), inputs)


def pruned(model: ModelProto, **changes: object) -> onnxprune.Result:
    return onnxprune.prune(model, {"macs": 0.6}, latency=False, **changes)


#: Its weights take their type from activations, so that it is no plain model.
CAST = "weights_cast_like_activations"


@pytest.mark.parametrize("name", NESTED)
def test_a_prepared_model_computes_the_same(name: str):
    model = NETWORKS[name]()
    before = model.SerializeToString(deterministic=True)
    new, _ = normalize.prepare(model)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(new)
    made = [name for g in subgraphs.graphs(new.graph) for n in g.node for name in n.output]
    assert len(made) == len(set(made))
    inner = [g for g in subgraphs.graphs(new.graph) if g is not new.graph][:-1]
    assert not any(g.initializer for g in inner)
    for seed in range(3):
        left, right = outputs(model, seed), outputs(new, seed)
        assert all(np.array_equal(value, right[name]) for name, value in left.items())


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {*NESTED, CAST}))
def test_a_plain_model_is_not_copied(name: str):
    model = NETWORKS[name]()
    if not any(map(subgraphs.is_control, model.graph.node)):
        assert normalize.prepare(model)[0] is model and normalize.distinct(model) is model


@pytest.mark.parametrize("name", NESTED)
def test_plans_are_replayed(name: str, tmp_path: Path):
    model, plan = NETWORKS[name](), tmp_path / "plan.json"
    result = onnxprune.prune(model, {"ratio": 0.7}, compensate=False, latency=False)
    plan.write_text(result.plan_json)
    again = onnxprune.apply(model, plan, latency=False)
    assert graph.model_bytes(again.model) == graph.model_bytes(result.model)
    assert onnxprune.check(model, result.model, latency=False).before.macs > 0
    left = sum(group.channels for group in analyze(result.model).groups)
    assert left == sum(row["kept"] for row in result.report.groups)


def test_macs_of_bodies_count_once():
    """Those of all branches, and those of one round of a loop."""
    macs = analyze(NETWORKS["branches_with_weights"]()).cost.full[0]
    convolutions = 3 * 8 * 9, 8 * 12 * 9, 12 * 6 * 9, 6 * 10 * 9, 12 * 10, 10 * 4 * 9
    assert macs == 16 * 16 * sum(convolutions)
    macs = analyze(NETWORKS["loop_with_a_hidden_state"]()).cost.full[0]
    assert macs == 5 * 12 + 12 * 12 + 12 * 6 + 6 * 3 + 12 * 3


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


def test_dead_filters_in_branches_go_without_loss():
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


def test_sibling_bodies_and_hidden_graphs_may_use_one_name():
    """An inner name may be that of an outer tensor, and an opaque operator reads a renamed one."""
    n = Net(x=("N", 6))
    y = n.relu(n.gemm("x", 6, 8))
    body = helper.make_graph(
        [helper.make_node("Add", ["e", "in_mul0_0"], ["r"])], "map",
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )  # fmt: skip
    graphs = []
    for _ in range(2):
        inner = Inner()
        z = inner.op("Mul", y, y)
        listed = inner.op("SequenceMap", inner.op("SequenceConstruct", z, y), body=body)
        graphs.append(inner.graph(inner.op("ConcatFromSequence", listed, axis=1)))
    z = n.op("If", positive(n, "x"), then_branch=graphs[0], else_branch=graphs[1])
    model = n.model(n.gemm(n.relu(n.gemm(z, 16, 8)), 8, 3))
    new, _ = normalize.prepare(model)
    left, right = outputs(model), outputs(new)
    assert all(np.array_equal(value, right[name]) for name, value in left.items())
    assert check_model(model) == 8
    (node,) = {why.node for _, _, why, _, _ in blocked(analyze(model)) if "Sequence" in why.reason}
    assert node == "in_n1"


def test_what_a_loop_carries_may_change_its_size():
    n = Net(x=("N", 6))
    y = n.relu(n.gemm("x", 6, 8))
    body = Inner(i=(), go=(), h=(None, 8))
    g = body.graph("go", body.op("Concat", "h", y, axis=0))
    grown = n.op("Loop", n.const(np.array(3)), "", y, body=g)
    model = n.model(n.gemm(grown, 8, 4))
    (node,) = (node for node in analyze(model).nodes if node.op == "Loop")
    assert node.outputs[0].size(0) is None and node.outputs[0].size(1) == 8
    assert check_model(model) == 8


@pytest.mark.parametrize("seed", range(4))
def test_the_branch_that_the_inputs_do_not_take_is_proved(seed: int, monkeypatch):
    """Whichever way the data go: a rule that forgets a branch is found out."""
    model = NETWORKS["branches_with_weights"]()

    def forgetful(node):
        kept, other = (body.outputs[0] for body in node.bodies[:: 1 if seed % 2 else -1])
        yield from same_but((), kept, node.outputs[0])
        yield from free(other)

    assert pruned(model, seed=seed).report.proof.passed
    monkeypatch.setitem(ops.COUPLINGS, "If", forgetful)
    notes = pruned(model, seed=seed).report.notes
    assert any("failed the proof and stays whole" in note for note in notes)


def test_a_comparison_of_sizes_that_vary_decides_nothing():
    """The length is not one for both samples, which does not say that it never is."""
    n = Net(x=("N", 3, "L"))
    y = n.relu(n.conv("x", 3, 8, rank=1))
    size = n.op("Gather", n.op("Shape", y), n.const(np.array([2])))
    then, other = Inner(), Inner()
    first = then.graph(then.op("Squeeze", y, then.const(np.array([2]))))
    second = other.graph(other.op("Identity", y))
    z = n.op("If", n.op("Equal", size, n.const(np.array([1]))), then_branch=first,
             else_branch=second)  # fmt: skip
    model = n.model(n.op("ReduceSum", z, keepdims=0))
    model.graph.output[0].type.tensor_type.shape.SetInParent()
    (node,) = (node for node in analyze(model).nodes if node.op == "If")
    assert node.outputs[0].shape is None and node.inputs[0].value is None
    assert check_model(model) == 0


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
def test_what_onnxruntime_runs_is_pruned(change: Callable, complaint: str):
    model = chain()
    change(model)
    result = pruned(model)
    assert result.report.proof.passed and result.report.after.macs < result.report.before.macs
    assert [complaint in w for w in result.report.warnings] == [True] * bool(complaint)
    assert bool(complaint) == ("but onnxruntime runs it" in result.report.text())
    runtime.open_session(graph.model_bytes(result.model))


def dangling(m: ModelProto) -> None:
    m.graph.node[1].input[0] = "nowhere"


def circular(m: ModelProto) -> None:
    m.graph.node[0].input[0] = m.graph.node[2].output[0]


def long_circle(m: ModelProto) -> None:
    last = m.graph.node[2].output[0]
    for k in range(2000):
        m.graph.node.append(helper.make_node("Relu", [last], [f"r{k}"], name=f"r{k}"))
        last = f"r{k}"
    m.graph.node[0].input[0] = last


def made_twice(m: ModelProto) -> None:
    m.graph.node.append(helper.make_node("Relu", ["x"], [m.graph.node[0].output[0]], name="again"))


def overwrites_an_input(m: ModelProto) -> None:
    m.graph.node[1].output[0] = "x"


def output_from_nowhere(m: ModelProto) -> None:
    m.graph.output.append(helper.make_tensor_value_info("nope", 1, [1]))


def no_output(m: ModelProto) -> None:
    del m.graph.output[:]


def short_weight(m: ModelProto) -> None:
    m.graph.initializer[2].raw_data = m.graph.initializer[2].raw_data[4:]


def unknown_attribute(m: ModelProto) -> None:
    m.graph.node[0].attribute.append(helper.make_attribute("colour", 3))


def too_new(m: ModelProto) -> None:
    m.ir_version = 99


def no_opset(m: ModelProto) -> None:
    del m.opset_import[:]


def untyped_input(m: ModelProto) -> None:
    m.graph.input[0].ClearField("type")


REFUSED = [
    (dangling, "node 'n1' (Relu) reads 'nowhere', which is no input, no weight and not made"),
    (circular, "cycle: 'n0' (Conv) ← 'n2' (Conv) ← 'n1' (Relu) ← 'n0' (Conv)"),
    (long_circle, "← … (2003 nodes)"),
    (made_twice, "'conv0_0' is made twice: by node 'n0' (Conv) and by node 'again' (Relu)"),
    (overwrites_an_input, "'x' is made twice: by an input and by node 'n1' (Relu)"),
    (output_from_nowhere, "output 'nope' of graph 'net' is not made by any node"),
    (no_output, "the model has no output"),
    (short_weight, "tensor 'c2' of shape [16, 16, 3, 3] needs 9216 bytes but holds 9212"),
    (unknown_attribute, "Unrecognized attribute: colour"),
    (too_new, "and onnxruntime cannot load the model: Unsupported model IR version: 99"),
    (no_opset, "must specify opset_import"),
    (untyped_input, "Model input (x) does not have type information"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[f.__name__ for f, _ in REFUSED])
def test_what_makes_no_sense_is_refused_by_name(change: Callable, message: str, tmp_path: Path):
    model, path = chain(), tmp_path / "model.onnx"
    change(model)
    path.write_bytes(model.SerializeToString())
    out = tmp_path / "out.onnx"
    for words in (["inspect", path], ["prune", path, out, "--target", "macs=0.6"]):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 2, result.output
        assert message in result.output and result.output.count("\n") == 1
    assert not out.exists()


def test_bodies_are_checked_too():
    model = NETWORKS["branches_with_weights"]()
    (node,) = (node for node in model.graph.node if node.op_type == "If")
    inner = node.attribute[0].g
    inner.node[0].input[0] = "nowhere"
    with pytest.raises(InputError, match=r"node 'in_n0' \(Conv\) reads 'nowhere'"):
        analyze(model)
    inner.node[0].input[0] = inner.node[-1].output[0]
    with pytest.raises(InputError, match="cycle: 'in_n0'"):
        analyze(model)


def test_nodes_of_bodies_may_be_in_any_order():
    model = NETWORKS["branches_in_branches"]()
    for g in list(subgraphs.graphs(model.graph)):
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in g.node][::-1]
        del g.node[:]
        g.node.extend(nodes)
    assert check_model(model) == check_model(NETWORKS["branches_in_branches"]())


@pytest.mark.parametrize("domain", ["", "own"])
def test_an_operator_that_onnxruntime_lacks(domain: str, tmp_path: Path):
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


def test_a_doubtful_model_gives_a_warning_beside_the_result(tmp_path: Path):
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
def test_inputs_and_outputs_of_all_kinds(make: Callable[[], ModelProto], channels: int):
    model = make()
    assert check_model(model) == channels
    if channels:
        result = onnxprune.prune(model, {"ratio": 0.6}, latency=False)
        assert graph.interface(result.model) == graph.interface(model)
        onnx.checker.check_model(result.model, full_check=True)
        for seed in range(2):
            assert outputs(result.model, seed).keys() == outputs(model, seed).keys()


def test_any_size_runs_after_pruning():
    result = pruned(all_dynamic())
    session = runtime.open_session(graph.model_bytes(result.model))
    for shape in ((1, 3, 5, 9), (4, 3, 1, 1), (2, 3, 300, 2)):
        x = np.ones(shape, np.float32)
        assert next(iter(runtime.run(session, {"x": x}).values())).shape == (
            shape[0],
            4,
            *shape[2:],
        )


def test_a_list_as_input_is_refused():
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
