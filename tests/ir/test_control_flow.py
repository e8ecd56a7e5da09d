"""Shapes in and behind branches and loops: those of a flat graph are the ones that occur."""

import nested_networks
import numpy as np
import onnx
import pytest
from nested_networks import Inner
from networks import NETWORKS, Net, samples_of
from onnx_text import parsed, run
from oracle import check_model

from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, instrument, normalize, skeleton, subgraphs
from onnxprune.ir.control_flow import Flat, Shape, flatten

NESTED = [name for name, make in NETWORKS.items() if make.__module__ == nested_networks.__name__]
BRANCHES = """
    g (bool q, float[2,3] x) => (y) {
        y = If (q) <
            then_branch = t () => (float[2,3] u) { u = Neg(x) },
            else_branch = e () => (float[2,1] v) { v = ReduceMax<axes = [1]>(x) }
        >
    }"""
#: One more row each time round.
GROWING = """
    g (int64 n, float[2,3] x) => (y, rows) {
        y, rows = Loop(n, , x) <
            body = b (int64 i, bool go, h) => (bool stay, grown, float[3] mean) {
                stay = Identity(go)
                grown = Concat<axis = 0>(h, x)
                mean = ReduceMean<axes = [0], keepdims = 0>(x)
            }
        >
    }"""
#: Scan along axis 1 of x (2, 5, 3); rows are collected along axis 1, in opset 11.
SCAN = """
    g (float[3] h, float[2,5,3] x) => (z, rows) {
        z, rows = Scan (h, x) <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
            body = b (float[3] state, float[2,3] row) => (float[3] next, float[2,3] out) {
                next = Identity(state)
                out = Add(row, state)
            }
        >
    }"""


def shapes_of(model: onnx.ModelProto, taken: dict[str, bool] | None = None) -> dict[str, Shape]:
    return skeleton.infer(skeleton.skeleton(model), {}, taken)


@pytest.mark.parametrize("name", NESTED)
def test_inferred_shapes_are_those_that_occur(name: str) -> None:
    """Sizes that the flat graph knows are those of a run; what is None may be any."""
    model, _ = normalize.prepare(NETWORKS[name]())
    samples = samples_of(model, np.random.default_rng(0))
    feeds = {value.name: samples[value.name] for value in graph.graph_inputs(model)}
    bare = skeleton.skeleton(model, {name: array.shape for name, array in feeds.items()})
    inferred = skeleton.infer(bare, {})
    top = [name for node in model.graph.node for name in node.output if name]
    found = run(instrument.shown(model, top), **feeds)
    known = 0
    for tensor, shape in inferred.items():
        if tensor in top and isinstance(found[tensor], np.ndarray):
            actual = found[tensor].shape
            assert len(shape) == len(actual), tensor
            assert all(a in (None, b) for a, b in zip(shape, actual, strict=True)), tensor
            known += None not in shape
    assert known > len(top) / 2


def test_sizes_that_differ_from_branch_to_branch_are_unknown() -> None:
    model = parsed(BRANCHES)
    assert shapes_of(model)["y"] == (2, None)
    assert shapes_of(model, {"q": True})["y"] == (2, 3)
    assert shapes_of(model, {"q": False})["y"] == (2, 1)


@pytest.mark.parametrize("opset", [11, 17])
def test_a_scan_collects_as_many_rows_as_it_reads(opset: int) -> None:
    model = parsed(SCAN, opset)
    shapes = shapes_of(model)
    assert (shapes["row"], shapes["z"], shapes["rows"]) == ((2, 3), (3,), (2, 5, 3))
    x, h = np.ones((2, 5, 3), np.float32), np.ones(3, np.float32)
    assert run(model, x=x, h=h)["rows"].shape == (2, 5, 3)


def test_sizes_that_differ_from_round_to_round_are_unknown() -> None:
    """Inside the body too; rows are collected as often as it runs."""
    shapes = shapes_of(parsed(GROWING))
    assert shapes["h"] == shapes["grown"] == shapes["y"] == (None, 3)
    assert shapes["mean"] == (3,) and shapes["rows"] == (None, 3)


def test_what_a_loop_carries_may_change_its_size() -> None:
    n = Net(x=("N", 6))
    y = n.relu(n.gemm("x", 6, 8))
    body = Inner(i=(), go=(), h=(None, 8))
    g = body.graph("go", body.op("Concat", "h", y, axis=0))
    grown = n.op("Loop", n.const(np.array(3)), "", y, body=g)
    model = n.model(n.gemm(grown, 8, 4))
    (node,) = (node for node in analyze(model).nodes if node.op == "Loop")
    assert node.outputs[0].size(0) is None and node.outputs[0].size(1) == 8
    assert check_model(model) == 8


def test_a_flat_graph_has_every_node_but_those_with_bodies() -> None:
    model = NETWORKS["branches_in_branches"]()
    flat = flatten(model.graph, 17, {})
    plain = [n for n in subgraphs.nodes(model.graph) if not subgraphs.is_control(n)]
    kept = [n for n in flat.nodes if n.op_type != "RandomUniformLike"]
    assert [n.output for n in kept] == [n.output for n in plain]


def test_assumed_shapes_are_weakened_as_far_as_needed() -> None:
    """Assumption by assumption: a size that differs is unknown, another rank leaves nothing."""
    flat = Flat(17, {}, agree=[("a", "b"), ("c", "d"), ("e", "f"), ("g", "nothing"), ("a", "h")])
    shapes: dict[str, Shape] = {"a": (2, 3, 4), "b": (2, 5, 4), "h": (1, 3, 4)}
    shapes |= {"c": (2, 3), "d": (2, 3), "e": (2,), "f": (2, 1), "g": (1,)}
    assert flat.weaker(shapes) == {"a": (None, None, 4), "e": None, "g": None}
