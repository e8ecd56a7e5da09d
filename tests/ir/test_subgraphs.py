"""What nodes with graphs inside read, and in which order all nodes come."""

from networks import NETWORKS
from onnx import helper
from onnx_text import parsed

from onnxprune.ir import subgraphs

#: The branch of an If holds another If; `a` is an outer tensor, `u` is made inside.
NESTED = """
    g (bool q, float[2] x) => (float[2] y) {
        [a] a = Exp(x)
        [outer] y = If (q) <
            then_branch = t () => (float[2] w) {
                [u] u = Neg(a)
                [inner] w = If (q) <
                    then_branch = tt () => (float[2] tt1) { [deep] tt1 = Add(u, u) },
                    else_branch = te () => (float[2] te1) { te1 = Identity(x) }
                >
            },
            else_branch = e (float[2] given) => (float[2] a) { [none] z = Abs(given) }
        >
    }"""


def test_nodes_of_bodies_stand_before_the_one_they_belong_to() -> None:
    graph = parsed(NESTED).graph
    names = [node.name for node in subgraphs.nodes(graph)]
    assert set(names) == {"a", "u", "deep", "", "inner", "none", "outer"}
    assert names[0] == "a" and names[-1] == "outer"
    assert names.index("deep") < names.index("inner") > names.index("u")
    assert [g.name for g in subgraphs.graphs(graph)][-1] == "g"
    assert {g.name for g in subgraphs.graphs(graph)} == {"g", "t", "tt", "te", "e"}


def test_levels_of_bodies_are_counted() -> None:
    assert subgraphs.depth(parsed(NESTED).graph) == 2
    assert subgraphs.depth(NETWORKS["scanned_cell"]().graph) == 1
    assert subgraphs.depth(NETWORKS["chain"]().graph) == 0


def test_a_node_reads_what_its_bodies_read_and_return() -> None:
    outer = parsed(NESTED).graph.node[1]
    reads = list(subgraphs.reads(outer))
    assert sorted(reads) == sorted(
        ["q", "w", "a", "q", "tt1", "u", "u", "te1", "x", "a", "given"]  # as often as it does
    )


def test_a_node_needs_only_what_comes_from_around_it() -> None:
    """Neither what is made inside nor inputs of a body; a body may return an outer tensor."""
    assert subgraphs.needs(parsed(NESTED).graph.node[1]) == {"q", "a", "x"}


def test_graphs_of_other_operators_are_not_looked_into() -> None:
    """All that they may read from outside is captured."""
    text = "g (float[2] e) => (float[2] r) { s = Mul(e, outside) r = Add(s, other) }"
    node = helper.make_node("SequenceMap", ["several"], ["mapped"], body=parsed(text).graph)
    assert not subgraphs.is_control(node) and subgraphs.bodies(node) == []
    assert [graph.name for graph in subgraphs.hidden(node)] == ["g"]
    assert subgraphs.captured(node) >= {"outside", "other"}
    assert subgraphs.needs(node) == {"several", "outside", "other"}


def test_what_is_there_before_any_node_runs() -> None:
    graph = NETWORKS["sparse_weights"]().graph
    sparse = {tensor.values.name for tensor in graph.sparse_initializer}
    dense = {tensor.name for tensor in graph.initializer}
    assert len(sparse) == 2 and len(dense) == 3
    assert subgraphs.given(graph) == {"x"} | sparse | dense


def test_an_operator_of_another_domain_is_no_control_flow() -> None:
    body = parsed("g () => (float[2] y) { y = Abs(x) }").graph
    node = helper.make_node("If", ["q"], ["y"], domain="own", then_branch=body, else_branch=body)
    assert subgraphs.bodies(node) == [] and len(subgraphs.hidden(node)) == 2


def test_names_that_no_tensor_begins_with():
    graph = parsed(NESTED).graph
    assert subgraphs.unused_name(graph, "tt") == "tt_"
    assert subgraphs.unused_name(graph, "other") == "other"
