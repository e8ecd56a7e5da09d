"""Some operators of a model as a session: they compute what they do in the whole model."""

import numpy as np
import pytest
from networks import NETWORKS, samples_of
from present import present

from onnxprune.calibration.segment import Part, open_model, open_segment
from onnxprune.ir import graph, runtime, skeleton


@pytest.fixture(scope="module")
def opened():
    model = NETWORKS["residual_spine"]()
    feeds = samples_of(model, np.random.default_rng(1), 4)
    return model, skeleton.skeleton(model), feeds


def test_a_whole_model_gives_any_of_its_tensors(opened):
    model, bare, feeds = opened
    relu = next(node.output[0] for node in model.graph.node if node.op_type == "Relu")
    output = model.graph.output[0].name
    segment = open_model(bare, [relu, output], feeds, graph.reader(model))
    values = segment.run(feeds)
    (whole,) = runtime.run(runtime.open_session(graph.model_bytes(model)), feeds).values()
    np.testing.assert_allclose(values[output], whole, rtol=1e-5, atol=1e-6)
    assert values[relu].min() == 0 and values[relu].max() > 0


def test_two_segments_compute_what_the_whole_does(opened):
    model, bare, feeds = opened
    nodes, output, read = list(bare.graph.node), model.graph.output[0].name, graph.reader(model)
    cut = nodes[4].output[0]
    needed = sorted(
        {name for node in nodes[5:] for name in node.input}
        & {name for node in nodes[:5] for name in node.output}
    )
    assert cut in needed
    first = open_segment(bare, Part(nodes[:5], needed), feeds, read)
    middle = first.run(feeds)
    second = open_segment(bare, Part(nodes[5:], [output]), middle, read)
    assert set(second.inputs) == set(needed)
    (whole,) = runtime.run(runtime.open_session(graph.model_bytes(model)), feeds).values()
    np.testing.assert_allclose(second.run(middle)[output], whole, rtol=1e-5, atol=1e-6)


def test_weights_that_are_fed_replace_the_stored_ones(opened):
    model, bare, feeds = opened
    read, output = graph.reader(model), model.graph.output[0].name
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    weight, bias = gemm.input[1:]
    segment = open_segment(bare, Part(list(bare.graph.node), [output], [weight, bias]), feeds, read)
    stored = {name: present(read(name)) for name in (weight, bias)}
    plain = segment.run(feeds, stored)[output]
    shifted = segment.run(feeds, {**stored, bias: stored[bias] + 1})[output]
    np.testing.assert_allclose(shifted, plain + 1, rtol=1e-5, atol=1e-5)
    doubled = segment.run(feeds, {weight: 2 * stored[weight], bias: 2 * stored[bias]})[output]
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-5, atol=1e-5)
