"""The weights that can lose single numbers, and how each is laid out."""

import numpy as np
import pytest
from networks import NETWORKS, Net

from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.sparsity.weights import excluded, select_weights, weights_of


def every(model):
    analysis = analyze(model)
    return analysis, weights_of(analysis.nodes, analysis.stored)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_laying_out_loses_nothing(name: str):
    _, weights = every(NETWORKS[name]())
    for weight in weights:
        values = np.arange(weight.size).reshape(weight.shape)
        laid = weight.laid(values)
        assert laid.shape == weight.form and np.prod(weight.form) == weight.size
        np.testing.assert_array_equal(weight.unlaid(laid), values)
        np.testing.assert_array_equal(weight.plain.laid(values).ravel(), values.ravel())


def test_channels_of_one_tap_lie_side_by_side():
    n = Net(x=(1, 3, 8, 8))
    analysis, (conv, gemm) = every(
        n.model(n.gemm(n.op("Flatten", n.op("GlobalAveragePool", n.conv("x", 3, 6))), 6, 4))
    )
    stored = analysis.read(conv.name)
    assert conv.form == (6, 9, 3)
    np.testing.assert_array_equal(conv.laid(stored)[2, 4], stored[2, :, 1, 1])
    stored = analysis.read(gemm.name)
    assert gemm.form == (4, 1, 6)
    np.testing.assert_array_equal(gemm.laid(stored)[1, 0], stored[1])


def test_depthwise_rows_read_one_channel():
    n = Net(x=(1, 4, 8, 8))
    _, (weight,) = every(n.model(n.conv("x", 4, 4, group=4)))
    assert weight.in_axis is None and weight.form == (4, 9, 1)


def test_a_lookup_takes_rows():
    _, weights = every(NETWORKS["lstm_over_an_embedding"]())
    assert any(weight.lookup for weight in weights)


def kinds(weights, kind=np.float32):
    return {weight.name: np.dtype(kind) for weight in weights}


def test_selection_says_why_weights_are_left():
    _, weights = every(NETWORKS["pooled_classifier"]())
    chosen = select_weights(weights, kinds(weights), only=["Gemm"])
    assert {weight.node.op for weight in chosen.weights} == {"Gemm"}
    assert set(chosen.skipped.values()) == {"operator Conv was not asked for"}
    first = weights[0].name
    chosen = select_weights(weights, kinds(weights), exclude=[f"^{first}$"])
    assert chosen.skipped == {first: "excluded by the user"}
    assert excluded(weights, [f"^{first}$"]) == {first}
    chosen = select_weights(weights, kinds(weights), include=[f"^{first}$"])
    assert [weight.name for weight in chosen.weights] == [first]
    chosen = select_weights(weights, kinds(weights, np.int64))
    assert not chosen.weights and "its type int64 holds no weights" in chosen.skipped.values()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"only": ["Conf"]}, "op 'Conf': no weight of the model belongs to one"),
        ({"include": ["nowhere"]}, "include 'nowhere': matches no node"),
        ({"exclude": ["["]}, r"exclude '\[': not a regular expression"),
    ],
)
def test_what_matches_nothing(words, message: str):
    _, weights = every(NETWORKS["chain"]())
    with pytest.raises(InputError, match=message):
        select_weights(weights, kinds(weights), **words)
