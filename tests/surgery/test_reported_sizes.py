"""Shapes go on reporting old sizes where somebody asks for them."""

import numpy as np
import onnx
import pytest
from cuts import cut_to, masks_without
from numpy.typing import NDArray
from text_models import text_model

from onnxprune.groups.analysis import analyze

#: A second layer is scaled by an entry of the shape of what it reads: 4 channels, one of them cut.
NET = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = MatMul (x, a)
    s = Shape ATTRS (h)
    k = Gather (s, at)
    n = Cast <to = 1> (k)
    z = MatMul (h, c)
    y = Mul (z, n)
}
"""


def net(at: NDArray[np.int64], attrs: str = "") -> onnx.ModelProto:
    return text_model(NET.replace("ATTRS", attrs), a=(3, 4), c=(4, 2), at=at)


@pytest.mark.parametrize(
    ("at", "attrs", "asked"),
    [(0, "", False), (1, "", True), (-1, "", True), (-2, "", False), (0, "<start = 1>", True)],
)
def test_only_sizes_that_are_read_are_written_over(at: int, attrs: str, asked: bool) -> None:
    """The proof shows that what is computed from them stays as it was."""
    model = net(np.array(at), attrs)
    analysis = analyze(model)
    small = cut_to(analysis, masks_without(analysis, a=[1])).model
    kinds = [node.op_type for node in small.graph.node]
    kept = [node.op_type for node in analysis.model.graph.node]
    assert (kinds != kept) == asked
