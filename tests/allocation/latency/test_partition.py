"""Which operators make each subgraph."""

from clock import divided
from paths import MODELS


def test_every_operator_that_sees_a_group_is_in_one_subgraph():
    analysis, subgraphs = divided(str(MODELS / "digits.onnx"))
    names = [proto.output[0] for subgraph in subgraphs.single for proto in subgraph.protos]
    assert len(names) == len(set(names))
    axes = {axis.tensor for group in analysis.groups for axis, _ in group.axes()}
    seeing = {n.output[0] for n in analysis.model.graph.node if axes & {*n.input, *n.output}}
    assert seeing <= set(names)
