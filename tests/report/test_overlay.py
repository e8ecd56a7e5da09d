"""Node data: what stays of every node, and why the rest does not go."""

import numpy as np
import pytest
from networks import NETWORKS

import onnxprune
from onnxprune.ir import graph
from onnxprune.report.overlay import GRADIENT, overlay
from onnxprune.types import Axis, Plan


def test_every_node_by_name_with_the_share_of_its_weights() -> None:
    model = NETWORKS["residual_spine"]()
    for k, node in enumerate(model.graph.node):
        node.name = f"node {k}" if k else ""
    result = onnxprune.prune(model, {"macs": 0.6}, latency=False, round_to=1)
    (name, data), *others = result.overlay().items()
    assert not others and name == model.graph.name and data["gradient"] == list(GRADIENT)
    sizes = [
        {n: np.prod(t.dims) for n, t in graph.constants(one).items()}
        for one in (result.original.proto, result.model)
    ]
    keys = [node.name or node.output[0] for node in model.graph.node]
    assert list(data["results"]) == keys
    for node, key in zip(model.graph.node, keys, strict=True):
        weights = [n for n in node.input if n in sizes[0] and n in sizes[1]]
        shares = [sizes[1][n] / sizes[0][n] for n in weights]
        if shares:
            assert data["results"][key]["value"] == pytest.approx(min(shares)), key
    assert "output of the model" in data["results"][keys[-1]]["reason"]


def test_positions_that_are_added_count_for_nothing() -> None:
    model = NETWORKS["pooled_classifier"]()
    axis = Axis(model.graph.node[0].output[0], 1)
    plan = Plan({axis: np.array([0, 1, 2, 99])}, {axis: 4})
    (data,) = overlay(model, plan, [], {}, {}).values()
    first = next(iter(data["results"].values()))
    assert first == {"value": 0.75}


def test_what_was_measured_stands_at_its_nodes() -> None:
    """What the width of a group costs at the readers of its weights, a drift at its layer."""
    model = NETWORKS["pooled_classifier"]()
    weight, output = model.graph.node[0].input[1], model.graph.node[1].output[0]
    (data,) = overlay(model, Plan({}, {}), [], {weight: 0.25}, {output: 0.5}).values()
    first, second, *others = data["results"].values()
    assert first == {"value": 1.0, "sensitivity": 0.25}
    assert second == {"value": 1.0, "divergence": 0.5}
    assert all(row.keys() <= {"value", "reason"} for row in others)
