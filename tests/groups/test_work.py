"""What operators have to do: products and numbers written."""

import numpy as np
from networks import Net
from text_models import perceptron

from onnxprune.groups.analysis import analyze
from onnxprune.groups.work import ELEMENT, node_macs, operator_work


def test_products_and_what_is_written_count():
    n = Net(x=(2, 3, 8, 8))
    model = n.model(n.relu(n.conv("x", 3, 4)))
    analysis = analyze(model)
    nodes = analysis.model.graph.node
    order = {name: k for k, node in enumerate(nodes) for name in node.output}
    work = operator_work(analysis.nodes, order, len(nodes))
    written = 2 * 4 * 8 * 8
    convolution = float(analysis.cost.full[0]) + ELEMENT * written
    np.testing.assert_allclose(work, [convolution, ELEMENT * written])


def test_what_no_operator_of_the_model_makes_is_left_out():
    n = Net(x=(2, 3))
    analysis = analyze(n.model(n.relu("x")))
    assert operator_work(analysis.nodes, {}, 1).tolist() == [0.0]


def test_multiply_accumulates_of_each_node():
    analysis = analyze(perceptron())
    assert node_macs(analysis.nodes) == {"n0": 12.0, "n1": 0.0, "n2": 8.0}
