"""Every tensor is made once, before it is read; what breaks this is named."""

import onnx
import pytest
from networks import NETWORKS
from onnx import helper
from onnx_text import parsed

from onnxprune.errors import InputError
from onnxprune.ir import normalize, subgraphs, topology

#: `a` is read before it is made; `b` and `c` may stay where they are.
UNSORTED = """
    g (float[2] x) => (float[2] y) {
        [b] b = Neg(x)
        [y] y = Add(a, c)
        [c] c = Abs(b)
        [a] a = Exp(x)
    }"""
#: What is wrong with a graph, and how the message names it.
WRONG = {
    "[n0] a = Neg(x) [n1] y = Relu(nowhere)": (
        r"node 'n1' \(Relu\) reads 'nowhere', which is no input, no weight and not made by any "
        r"node\. Export the model again\."
    ),
    "[n0] a = Neg(x) [n1] a = Abs(x) [n2] y = Relu(a)": (
        r"'a' is made twice: by node 'n0' \(Neg\) and by node 'n1' \(Abs\)\. Every tensor needs"
    ),
    "[n0] x = Neg(x) [n1] y = Relu(x)": r"'x' is made twice: by an input and by node 'n0' \(Neg\)",
    "[n0] a = Neg(x)": "output 'y' of graph 'g' is not made by any node",
    "a = Neg(x) y = Relu(lost)": r"node 'y' \(Relu\) reads 'lost'",
    "[n0] y = Neg(b) [n1] a = Abs(y) [n2] b = Exp(a)": (
        r"the graph has a cycle: 'n0' \(Neg\) ← 'n2' \(Exp\) ← 'n1' \(Abs\) ← 'n0' \(Neg\)\. No "
        "order of its nodes can run it"
    ),
}


def names(graph: onnx.GraphProto) -> list[str]:
    return [node.name for node in graph.node]


def test_nodes_move_behind_those_that_they_read_from_and_no_further() -> None:
    model = parsed(UNSORTED)
    assert not topology.check(model.graph)
    topology.sort(model.graph)
    assert names(model.graph) == ["b", "c", "a", "y"]
    assert topology.check(model.graph)


def test_sorted_nodes_stay_the_same_messages() -> None:
    graph = NETWORKS["branches_in_branches"]().graph
    before = graph.SerializeToString(deterministic=True)
    first = graph.node[0]
    assert topology.check(graph)
    topology.sort(graph)
    assert graph.SerializeToString(deterministic=True) == before and graph.node[0] is first


@pytest.mark.parametrize("nodes", WRONG)
def test_what_no_order_can_mend_is_refused_by_name(nodes: str) -> None:
    graph = parsed(f"g (float[2] x) => (float[2] y) {{ {nodes} }}").graph
    with pytest.raises(InputError, match=WRONG[nodes]):
        if not topology.check(graph):
            topology.sort(graph)


def test_of_a_long_cycle_five_nodes_and_their_number_are_shown() -> None:
    graph = parsed("g (float[2] x) => (float[2] y) { [n0] y = Neg(r1999) }").graph
    for k in range(2000):
        source = f"r{k - 1}" if k else "y"
        graph.node.append(helper.make_node("Relu", [source], [f"r{k}"], name=f"r{k}"))
    with pytest.raises(InputError, match=r"cycle: 'n0' \(Neg\) ← .* ← … \(2001 nodes\)\. No") as e:
        topology.sort(graph)
    assert str(e.value).count("(Relu)") == 4


def test_a_body_waits_for_what_is_made_around_it() -> None:
    """The If stands before the node whose result its branches read."""
    model = parsed("""
        g (bool q, float[2] x) => (float[2] y) {
            [if] y = If (q) <
                then_branch = t () => (float[2] u) { u = Neg(a) },
                else_branch = e () => (float[2] v) { v = Abs(a) }
            >
            [a] a = Exp(x)
        }""")
    assert not topology.check(model.graph)
    new, _ = normalize.prepare(model)
    assert names(new.graph) == ["a", "if"] and names(model.graph) == ["if", "a"]
    assert topology.check(new.graph)


def test_bodies_are_checked_and_sorted_too() -> None:
    model = NETWORKS["branches_with_weights"]()
    (node,) = (node for node in model.graph.node if node.op_type == "If")
    (inner,) = (body for name, body in subgraphs.bodies(node) if name == "then_branch")
    expected = names(inner)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in inner.node][::-1]
    del inner.node[:]
    inner.node.extend(nodes)
    assert not topology.check(model.graph)
    topology.sort(model.graph)
    assert names(inner) == expected and len(expected) == 3
    inner.node[0].input[0] = "nowhere"
    with pytest.raises(InputError, match=r"node 'in_n0' \(Conv\) reads 'nowhere'"):
        topology.check(model.graph)
    inner.node[0].input[0] = inner.node[-1].output[0]
    with pytest.raises(InputError, match=r"cycle: 'in_n0' \(Conv\) ← 'in_n2' \(Conv\)"):
        topology.sort(model.graph)
