"""Nodes of two graphs are paired by name, by what they give, by their place."""

import onnx
from onnx import helper

from onnxprune.ir.node_pairs import node_pairs


def nodes(*rows: str) -> list[onnx.NodeProto]:
    """Nodes from words: operator, name or "-", output."""
    made = []
    for row in rows:
        op, name, output = row.split()
        made.append(helper.make_node(op, ["x"], [output], name="" if name == "-" else name))
    return made


def test_a_name_counts_more_than_the_place() -> None:
    first, second = nodes("Relu a u", "Relu b v"), nodes("Relu b p", "Relu a q")
    assert node_pairs(first, second) == {0: 1, 1: 0}


def test_without_names_outputs_count() -> None:
    first, second = nodes("Relu - u", "Relu - v"), nodes("Relu - v", "Relu - w")
    assert node_pairs(first, second)[1] == 0


def test_what_is_left_goes_by_place_between_pairs() -> None:
    """The first Conv is gone; the others are called anew, but the Relu between them is known."""
    first = nodes("Conv a t", "Conv b u", "Relu r v", "Conv c w", "Gemm d x")
    second = nodes("Conv p k", "Relu r l", "Conv q m", "Gemm s n")
    pairs = node_pairs(first, second)
    assert (pairs[2], pairs[3], pairs[4]) == (1, 2, 3)
    assert len(pairs) == 4 and sorted(pairs.values()) == [0, 1, 2, 3]


def test_different_operators_are_never_a_pair() -> None:
    first, second = nodes("Conv a u"), nodes("Gemm a u")
    assert node_pairs(first, second) == {}
    other = helper.make_node("Conv", ["x"], ["u"], name="a", domain="mine")
    assert node_pairs(first, [other]) == {}


def test_a_name_that_two_nodes_have_says_nothing() -> None:
    """So what they give decides, and the place of what is left."""
    first = nodes("Relu a u", "Relu a v", "Conv b w")
    second = nodes("Relu a v", "Conv c x", "Relu a y")
    assert node_pairs(first, second) == {1: 0, 2: 1}
