"""A model in one scope computes the same; a plain one is not copied; nonsense is refused."""

import nested_networks
import numpy as np
import onnx
import pytest
from nested_networks import Inner, positive
from networks import NETWORKS, Net, samples_of
from onnx import TensorProto, helper
from onnx_text import parsed, run, stored
from oracle import check_model

from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze, blocked
from onnxprune.ir import graph, normalize, runtime, subgraphs

#: Its weights take their type from activations, so that it is no plain model.
CAST = "weights_cast_like_activations"
NESTED = [name for name, make in NETWORKS.items() if make.__module__ == nested_networks.__name__]


@pytest.mark.parametrize("name", NESTED)
def test_a_prepared_model_computes_the_same(name: str) -> None:
    model = NETWORKS[name]()
    before = graph.model_bytes(model)
    new, _ = normalize.prepare(model)
    assert graph.model_bytes(model) == before
    onnx.checker.check_model(new)
    made = [name for g in subgraphs.graphs(new.graph) for n in g.node for name in n.output]
    assert len(made) == len(set(made))
    inner = [g for g in subgraphs.graphs(new.graph) if g is not new.graph][:-1]
    assert not any(g.initializer for g in inner)
    for seed in range(3):  # whichever branch that takes
        samples = samples_of(model, np.random.default_rng(seed))
        feeds = {value.name: samples[value.name] for value in graph.graph_inputs(model)}
        left, right = run(model, **feeds), run(new, **feeds)
        assert all(np.array_equal(value, right[name]) for name, value in left.items())


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {*NESTED, CAST}))
def test_a_plain_model_is_not_copied(name: str) -> None:
    model = NETWORKS[name]()
    if not any(map(subgraphs.is_control, model.graph.node)):
        assert normalize.prepare(model)[0] is model and normalize.distinct(model) is model


def test_sibling_bodies_and_hidden_graphs_may_use_one_name() -> None:
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
    for sign in (1, -1):
        x = sign * np.ones((2, 6), np.float32)
        left, right = run(model, x=x), run(new, x=x)
        assert all(np.array_equal(value, right[name]) for name, value in left.items())
    assert check_model(model) == 8
    (node,) = {why.node for _, _, why, _, _ in blocked(analyze(model)) if "Sequence" in why.reason}
    assert node == "in_n1"


def test_constants_of_bodies_go_to_the_main_graph_under_names_of_their_own() -> None:
    """Both branches call their constant `k`, which is also a tensor of the main graph."""
    model = parsed("""
        g (bool q, float[2] x) => (float[2] y) {
            k = Neg(x)
            y = If (q) <
                then_branch = t () => (float[2] u) <float[2] k = {1, 2}> { u = Add(x, k) },
                else_branch = e () => (float[2] v) {
                    k = Constant<value = float[2] {5, 6}>()
                    v = Add(x, k)
                }
            >
        }""")
    new, notes = normalize.prepare(model)
    assert notes == ["2 constants of branches and loops went to the main graph"]
    assert sorted(v.tolist() for v in stored(new).values()) == [[1, 2], [5, 6]]
    assert "k" not in stored(new)
    x = np.ones(2, np.float32)
    assert [run(new, q=np.array(q), x=x)["y"].tolist() for q in (True, False)] == [[2, 3], [6, 7]]


def test_of_two_tensors_of_one_name_the_last_counts() -> None:
    """As in onnxruntime."""
    model = parsed("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    later = onnx.numpy_helper.from_array(np.array([3, 4], np.float32), "w")
    model.graph.initializer.append(later)
    new, notes = normalize.prepare(model)
    assert notes == ["'w' is stored 2 times; the last counts, as in onnxruntime"]
    assert [t.name for t in new.graph.initializer] == ["w"]
    x = np.zeros(2, np.float32)
    assert run(new, x=x)["y"].tolist() == run(model, x=x)["y"].tolist() == [3, 4]


def test_only_functions_that_are_called_are_inlined() -> None:
    """Directly or by another function; one that nobody calls stays, weights are not copied."""
    model = NETWORKS["functions_of_its_own"]()
    unused = '<opset_import: ["": 17], domain: "own"> spare (x) => (y) { y = Neg(x) }'
    model.functions.append(onnx.parser.parse_function(unused))
    new, notes = normalize.prepare(model)
    assert notes == ["the model's functions were inlined"]
    assert [function.name for function in new.functions] == ["spare"]
    assert {node.op_type for node in new.graph.node} == {
        "MatMul",
        "Add",
        "Mul",
        "Relu",
        "Gemm",
        "Constant",
    }
    assert stored(new).keys() == stored(model).keys()


def test_nodes_of_one_name_get_numbers_that_nobody_has() -> None:
    model = parsed("""
        g (float[2] x) => (float[2] y) {
            [n] a = Neg(x)
            [n_2] b = Neg(a)
            [n] c = Neg(b)
            y = Neg(c)
        }""")
    new = normalize.distinct(model)
    assert [node.name for node in new.graph.node] == ["n", "n_2", "n_3", ""]
    assert [node.name for node in model.graph.node] == ["n", "n_2", "n", ""]
    runtime.open_session(graph.model_bytes(new))
    with pytest.raises(InputError, match="onnxruntime cannot load the model"):
        runtime.open_session(graph.model_bytes(model))


def test_a_model_without_outputs_or_with_half_a_weight_is_refused() -> None:
    model = NETWORKS["chain"]()
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "c2")
    weight.raw_data = weight.raw_data[4:]
    message = r"tensor 'c2' of shape \[16, 16, 3, 3\] needs 9216 bytes but holds 9212\. The file is"
    with pytest.raises(InputError, match=message):
        normalize.prepare(model)
    del model.graph.output[:]
    with pytest.raises(InputError, match="the model has no output, so nothing can be compared"):
        normalize.prepare(model)


@pytest.mark.parametrize("at", [[7], [[7]], [[0, 0]], [0, 1]], ids=str)
def test_a_sparse_weight_with_values_outside_of_it_is_refused(at: list[object]) -> None:
    """Or with more places than values, or with places of another rank."""
    model = parsed("g (float[2] x) => (float[2] y) { y = Add(x, w) }")
    values = onnx.numpy_helper.from_array(np.ones(3 if at == [0, 1] else 1, np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.array(at, np.int64), "at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
    message = r"sparse tensor 'w' of shape \[2\] stores \d values at places that it does not have: "
    with pytest.raises(InputError, match=message):
        normalize.prepare(model)


def test_functions_that_call_themselves_are_refused() -> None:
    model = NETWORKS["functions_of_its_own"]()
    function = model.functions[0]
    again = helper.make_node(function.name, function.input, function.output, domain=function.domain)
    del function.node[:]
    function.node.append(again)
    with pytest.raises(InputError, match=r"functions cannot be inlined: .*Export the model again"):
        normalize.prepare(model)
