"""A model run segment by segment gives what it gives as a whole, and forgets what is not needed."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net, samples_of
from onnx import helper

from onnxprune.calibration.incremental_run import IncrementalRun
from onnxprune.ir import graph, normalize, runtime


@pytest.fixture(scope="module")
def case():
    model = NETWORKS["residual_spine"]()
    feeds = samples_of(model, np.random.default_rng(3), 12)
    batches = [{name: v[k : k + 4] for name, v in feeds.items()} for k in range(0, 12, 4)]
    session = runtime.open_session(graph.model_bytes(model))
    return model, batches, [runtime.run(session, batch) for batch in batches]


@pytest.mark.parametrize("memory", [10**9, 2000, 0])
def test_one_operator_at_a_time(case, memory: int):
    model, batches, expected = case
    run = IncrementalRun(model, batches, memory=memory)
    for at in range(1, len(run.bare.graph.node) + 1):
        run.advance(at, graph.reader(model))
        assert run.at == at
    for values, outputs in zip(run.values, expected, strict=True):
        assert values.keys() == outputs.keys()  # nothing else is needed at the end
        for name, array in outputs.items():
            np.testing.assert_allclose(values[name], array, rtol=1e-5, atol=1e-5)


def _weights_as_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """What some exporters write: a Constant node in place of every stored tensor."""
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes += model.graph.node
    graph_proto = helper.make_graph(nodes, "g", model.graph.input, model.graph.output)
    return helper.make_model(graph_proto, opset_imports=model.opset_import, ir_version=8)


def _sequence() -> onnx.ModelProto:
    """Tensors are kept in a sequence while another layer runs."""
    n = Net(x=("N", 3, 8, 8))
    parts = n.op("SplitToSequence", n.conv("x", 3, 8), n.const(np.int64(4)), axis=1)
    y = n.relu(n.conv("x", 3, 4))
    z = n.op("SequenceAt", parts, n.const(np.int64(1)))
    return n.model(n.conv(n.op("Add", y, z), 4, 2))


@pytest.mark.parametrize("name", ["captured_by_branches", "scanned_cell", "sequence", "nodes"])
def test_whatever_crosses_from_one_segment_to_the_next(name: str):
    """Weights that only bodies read, sequences, and Constant nodes, whose content may change."""
    nodes = _weights_as_nodes(NETWORKS["residual_spine"]())
    made = {**NETWORKS, "sequence": _sequence, "nodes": lambda: nodes}
    model = normalize.prepare(made[name]())[0]
    feeds = samples_of(model, np.random.default_rng(3), 4)
    expected = runtime.run(runtime.open_session(graph.model_bytes(model)), feeds)
    run = IncrementalRun(model, [feeds])
    for at in range(1, len(run.bare.graph.node) + 1):
        run.advance(at, graph.reader(model))
    for output, array in expected.items():
        np.testing.assert_allclose(run.values[0][output], array, rtol=1e-4, atol=1e-5)


def test_what_a_constant_node_holds_can_be_replaced():
    model = _weights_as_nodes(NETWORKS["residual_spine"]())
    feeds = samples_of(model, np.random.default_rng(3), 4)
    read = graph.reader(model)
    name = next(node.input[2] for node in model.graph.node if node.op_type == "Conv")
    bias = read(name) + np.float32(1)
    plain, other = (IncrementalRun(model, [feeds]) for _ in range(2))
    end = len(plain.bare.graph.node)
    plain.advance(end, read)
    other.advance(end, lambda n: bias if n == name else read(n))
    for output, array in plain.values[0].items():
        assert np.abs(array - other.values[0][output]).max() > 1e-3


def test_tensors_on_the_way_are_shown_and_not_kept(case):
    model, batches, expected = case
    read, nodes = graph.reader(model), model.graph.node
    run, other = (IncrementalRun(model, batches) for _ in range(2))
    middle, before = nodes[4].output[0], nodes[0].output[0]
    run.advance(1, read)
    seen = [
        {name: values[name] for name in (middle, before)}
        for values in run.shown(len(nodes), read, [middle, before])
    ]
    (output,) = expected[0]
    for values, batch in zip(run.values, expected, strict=True):
        assert set(values) == {output}
        np.testing.assert_allclose(values[output], batch[output], rtol=1e-5, atol=1e-5)
    other.advance(1, read)
    first = [values[before] for values in other.values]
    other.advance(5, read)
    for shown, own, values in zip(seen, first, other.values, strict=True):
        np.testing.assert_array_equal(shown[before], own)
        np.testing.assert_allclose(shown[middle], values[middle], rtol=1e-5, atol=1e-6)


def test_tensors_are_kept_as_long_as_they_are_needed(case):
    model, batches, _ = case
    first, end = model.graph.node[0].output[0], len(model.graph.node)
    run = IncrementalRun(model, batches)
    for at in (1, 5, 6, 7, end):
        run.advance(at, graph.reader(model))
        assert (first in run.values[0]) == (at == 1)


def test_weights_count_from_the_segment_that_reads_them(case):
    """Weights of operators that have run may change without effect."""
    model, batches, expected = case
    read = graph.reader(model)
    run = IncrementalRun(model, batches)
    run.advance(5, read)
    early = {name for node in model.graph.node[:5] for name in node.input}
    run.advance(len(model.graph.node), lambda name: None if name in early else read(name))
    (name,) = expected[0]
    np.testing.assert_allclose(run.values[0][name], expected[0][name], rtol=1e-5, atol=1e-5)
