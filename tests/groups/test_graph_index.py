"""Who makes and who reads what, counted by hand."""

from networks import NETWORKS
from text_models import text_model

from onnxprune.groups.analysis import analyze
from onnxprune.groups.graph_index import GraphIndex
from onnxprune.types import Axis, Body, Node, Tensor

TWICE = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = MatMul (x, a)
    s = Add (h, h)
    y = MatMul (s, c)
}
"""


def index() -> GraphIndex:
    return analyze(text_model(TWICE, a=(3, 4), c=(4, 2))).index


def test_a_node_that_reads_a_tensor_twice_is_listed_twice() -> None:
    readers = {name: [node.name for node in nodes] for name, nodes in index().readers.items()}
    assert readers == {"x": ["n0"], "a": ["n0"], "h": ["n1", "n1"], "s": ["n2"], "c": ["n2"]}


def test_every_result_has_its_maker() -> None:
    assert {name: n.name for name, n in index().makers.items()} == {"h": "n0", "s": "n1", "y": "n2"}


def test_an_axis_is_touched_by_its_maker_and_its_readers() -> None:
    touching = index().touching
    assert [node.name for node in touching[Axis("h", 1)]] == ["n0", "n1", "n1"]
    assert [node.name for node in touching[Axis("c", 0)]] == ["n2"]
    assert Axis("y", 1) in touching and Axis("y", 2) not in touching


def test_what_a_body_captures_is_read_by_the_node_that_holds_it() -> None:
    x, y, inner = Tensor("x", (2,)), Tensor("y", (2,)), Tensor("inner", (2,))
    holds = Node("holds", "If", (None,), (y,), captured=(x,), bodies=(Body("b", (), (inner,)),))
    found = GraphIndex((holds,))
    assert found.readers == {"x": [holds]}
    assert found.touching[Axis("inner", 0)] == [holds]
    assert found.makers == {"y": holds}


def test_nodes_without_results_read_nothing() -> None:
    x = Tensor("x", (2,))
    ends = Node("ends", "Sink", (x,), ())
    assert GraphIndex((ends,)).readers == {} and GraphIndex((ends,)).touching == {}


def test_nodes_of_bodies_are_looked_up_like_all_others() -> None:
    analysis = analyze(NETWORKS["branches_with_weights"]())
    made = {name for node in analysis.nodes for name in (t.name for t in node.outputs)}
    assert analysis.index.makers.keys() == made
    assert analysis.index.nodes == analysis.nodes
