"""Streams that can be turned are found, with what that takes of weights; others say why not."""

import numpy as np
import onnx
import pytest
from transformer_networks import DATA, SEQUENCE, WIDTH, WORDS, Block, gpt_with_tied_head

from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.streams import find_stream
from onnxprune.groups.turning import Stream


def written(n: Block) -> str:
    """A layer that makes a stream of the input."""
    return n.linear("x", WIDTH, WIDTH)


def found(model: onnx.ModelProto) -> tuple[Analysis, list[Stream | str]]:
    analysis = analyze(model, biases=True)
    each = [find_stream(analysis, group) for group in analysis.groups]
    return analysis, [one for one in each if one is not None]


def one(model: onnx.ModelProto) -> Stream | str:
    (stream,) = found(model)[1]
    return stream


def reason(model: onnx.ModelProto) -> str:
    stream = one(model)
    assert isinstance(stream, str)
    return stream


def test_writers_readers_gamma_and_beta():
    n = Block(**DATA)
    y = written(n)
    y = n.op("Add", y, n.mlp(n.norm(y)))
    stream = one(n.model(n.linear(n.norm(y), WIDTH, 10)))
    assert isinstance(stream, Stream) and stream.centred
    kinds = sorted(use.kind for use in stream.uses)
    # two biases and two weights of writers, two weights of readers; γ and β of two norms
    assert kinds == ["ones"] * 2 + ["turned"] * 6 + ["zeros"] * 2
    assert sum(use.gamma is not None for use in stream.uses) == 2
    assert len(stream.folds) == 2 and len(stream.read) == 2


def test_root_mean_squares_ask_nothing_of_the_mean():
    n = Block(**WORDS)
    y = n.op("Gather", n.weight(50, WIDTH), "ids")
    y = n.op("Add", y, n.gated(n.rms(y)))
    stream = one(n.tokens(n.linear(n.rms(y), WIDTH, 10, False)))
    assert isinstance(stream, Stream) and not stream.centred and not stream.folds


def test_a_layer_normalisation_that_is_written_out():
    n = Block(**DATA)
    y = written(n)
    centred = n.op("Sub", y, n.op("ReduceMean", y, axes=[-1]))
    spread = n.op("ReduceMean", n.op("Pow", centred, n.scalar(2)), axes=[-1])
    z = n.op("Div", centred, n.op("Sqrt", n.op("Add", spread, n.scalar(1e-5))))
    z = n.op("Add", n.op("Mul", z, n.positive(WIDTH)), n.weight(WIDTH))
    y = n.op("Add", y, n.mlp(z))
    stream = one(n.model(n.linear(n.norm(y), WIDTH, 10)))
    assert isinstance(stream, Stream) and stream.centred and len(stream.folds) == 2


def test_post_norm_networks_say_why():
    n = Block(**DATA)
    y = n.norm(written(n))
    y = n.norm(n.op("Add", y, n.mlp(y)))
    assert "post-norm" in reason(n.model(n.linear(y, WIDTH, 10)))


@pytest.mark.parametrize("sign", ["Mul", "Div"])
def test_scales_of_what_is_written_go_into_its_layer(sign: str):
    n = Block(**DATA)
    y = written(n)
    scale = n.positive(WIDTH)
    y = n.op("Add", y, n.op(sign, n.mlp(n.norm(y)), scale))
    analysis, (stream,) = found(n.model(n.linear(n.norm(y), WIDTH, 10)))
    assert isinstance(stream, Stream)
    stored = analysis.read(scale)
    assert stored is not None
    by = stored.astype(np.float64) if sign == "Mul" else 1 / stored.astype(np.float64)
    scaled = [u for u in stream.uses if u.gamma is not None and np.allclose(u.gamma, by)]
    assert len(scaled) == 2  # the weight and the bias of the second layer
    assert sum(use.kind == "ones" for use in stream.uses) == 3


def test_scales_of_what_is_read_twice_say_why():
    n = Block(**DATA)
    y = written(n)
    z = n.mlp(n.norm(y))
    y = n.op("Add", n.op("Add", y, z), n.op("Mul", z, n.positive(WIDTH)))
    assert "scaled channel by channel" in reason(n.model(n.linear(n.norm(y), WIDTH, 10)))


def test_scales_of_what_is_joined_with_a_stored_row_say_why():
    n = Block(**DATA)
    row = n.op("Expand", n.weight(1, 1, WIDTH), n.ints(2, 1, WIDTH))
    y = n.op("Mul", n.op("Concat", row, written(n), axis=1), n.positive(WIDTH))
    y = n.op("Add", y, n.mlp(n.norm(y)))
    assert "scaled channel by channel" in reason(n.model(n.linear(n.norm(y), WIDTH, 10)))


def test_what_takes_channels_one_by_one_says_why():
    n = Block(**DATA)
    y = n.relu(written(n))
    y = n.op("Add", y, n.mlp(n.norm(y)))
    assert "(Relu) is not linear in it" in reason(n.model(n.linear(n.norm(y), WIDTH, 10)))


def test_products_of_the_stream_with_itself_say_why():
    n = Block(**DATA)
    y = written(n)
    y = n.op("Add", y, n.mlp(n.norm(y)))
    z = n.norm(y)
    y = n.op("MatMul", z, n.op("Transpose", z, perm=[0, 2, 1]))
    assert "MatMul" in reason(n.model(n.linear(y, SEQUENCE, 10)))


def test_weights_that_are_read_behind_gamma_and_without_it_say_why():
    assert "tied weights" in reason(gpt_with_tied_head())


def test_squares_that_are_scaled_are_no_root_mean_square():
    n = Block(**DATA)
    y = written(n)
    squares = n.op("Mul", n.op("Pow", y, n.scalar(2)), n.positive(WIDTH))
    mean = n.op("ReduceMean", squares, axes=[-1])
    z = n.op("Div", y, n.op("Sqrt", n.op("Add", mean, n.scalar(1e-6))))
    y = n.op("Add", y, n.mlp(z))
    assert isinstance(one(n.model(n.linear(n.norm(y), WIDTH, 10))), str)


def test_networks_without_normalised_sums_have_no_streams():
    n = Block(**DATA)
    y = n.norm(written(n))
    assert found(n.model(n.linear(y, WIDTH, 10)))[1] == []


@pytest.mark.parametrize("sign", ["Mul", "Div"])
def test_gamma_is_what_multiplies_or_divides(sign: str):
    n = Block(**WORDS)
    y = n.op("Gather", n.weight(50, WIDTH), "ids")
    mean = n.op("ReduceMean", n.op("Mul", y, y), axes=[-1])
    z = n.op("Div", y, n.op("Sqrt", n.op("Add", mean, n.scalar(1e-6))))
    gamma = n.positive(WIDTH)
    y = n.op("Add", y, n.gated(n.op(sign, z, gamma)))
    model = n.tokens(n.linear(n.rms(y), WIDTH, 10, False))
    analysis, (stream,) = found(model)
    assert isinstance(stream, Stream)
    stored = analysis.read(gamma)
    assert stored is not None
    factor = stored.astype(np.float64) if sign == "Mul" else 1 / stored.astype(np.float64)
    assert sum(u.gamma is not None and np.allclose(u.gamma, factor) for u in stream.uses) == 2
