"""Which layers read a group, at which columns of their matrices, and what else reads it."""

import numpy as np
from networks import NETWORKS
from text_models import perceptron, text_model, two_heads

from onnxprune.groups.analysis import analyze
from onnxprune.groups.readers import GroupReaders


def readers(text: str, **stored: tuple[int, ...]) -> list[GroupReaders]:
    return analyze(text_model(text, **stored)).readers


def names(found: GroupReaders) -> list[str]:
    return [layer.weight.name for layer in found.layers]


def test_a_dense_layer_reads_each_channel_in_one_column() -> None:
    (found,) = analyze(perceptron()).readers
    assert names(found) == ["c"] and found.complete
    assert found.columns[0].tolist() == [[0], [1], [2], [3]]


def test_a_convolution_reads_a_channel_with_every_tap() -> None:
    """Columns are taps first: channel c of 5 lies at c + 5 · tap."""
    text = """
    net (float[1, 3, 8, 8] x) => (float[1, 2, 6, 7] y) {
        h = Conv (x, a)
        y = Conv <kernel_shape = [3, 2]> (h, c)
    }
    """
    (found,) = readers(text, a=(5, 3, 1, 1), c=(2, 5, 3, 2))
    assert names(found) == ["c"] and found.complete
    assert found.columns[0].tolist() == [[c + 5 * tap for tap in range(6)] for c in range(5)]


def test_a_flattened_channel_is_read_at_all_its_positions() -> None:
    text = """
    net (float[1, 3, 2, 2] x) => (float[1, 2] y) {
        h = Conv (x, a)
        f = Flatten (h)
        y = Gemm <transB = 1> (f, c)
    }
    """
    (found,) = readers(text, a=(5, 3, 1, 1), c=(2, 20))
    assert found.columns[0].tolist() == np.arange(20).reshape(5, 4).tolist()


def test_each_head_s_part_of_a_channel_is_a_unit_of_its_own() -> None:
    width, heads = analyze(two_heads()).readers
    assert names(width) == names(heads) == ["c"]
    assert width.columns[0].tolist() == [[0], [3], [1], [4], [2], [5]]
    assert heads.columns[0].tolist() == [[0, 1, 2], [3, 4, 5]]


TWO_READERS = """
net (float[4, 3] x) => (float[4, 2] y, float[4, 4] z) {{
    h = MatMul (x, a)
    r = Relu (h)
    y = MatMul (r, c)
    {0}
}}
"""


def test_all_layers_that_read_a_group_are_found() -> None:
    (found,) = readers(TWO_READERS.format("z = MatMul (h, e)"), a=(3, 5), c=(5, 2), e=(5, 4))
    assert names(found) == ["c", "e"] and found.complete


def test_a_sum_over_channels_without_a_weight_stands_in_for_nothing() -> None:
    """z = r rᵀ: least squares has no weight there to make up for a channel."""
    text = TWO_READERS.format("t = Transpose (r) z = MatMul (r, t)")
    (found,) = readers(text, a=(3, 5), c=(5, 2))
    assert names(found) == ["c"] and not found.complete


def test_a_layer_that_cannot_be_refitted_leaves_the_group_incomplete() -> None:
    """A grouped convolution reads a group, but is no single matrix."""
    found = analyze(NETWORKS["grouped_convolutions"]()).readers
    refitted = {name for each in found for name in names(each)}
    assert not all(each.complete for each in found)
    assert all(each.complete == bool(names(each)) for each in found)
    stored = analyze(NETWORKS["grouped_convolutions"]()).stored
    assert refitted and all(len(stored[name]) == 4 for name in refitted)


def test_there_is_one_answer_for_every_group_in_order() -> None:
    for name in ("residual_spine", "llama", "two_inputs"):
        analysis = analyze(NETWORKS[name]())
        assert tuple(found.group for found in analysis.readers) == analysis.groups
