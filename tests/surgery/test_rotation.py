"""Turned streams compute what they did; plans hold the matrices, and refuse wrong ones."""

from typing import Any

import numpy as np
import onnx
import pytest
from transformer_networks import DATA, WIDTH, Block, vision_transformer

from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.streams import find_stream
from onnxprune.groups.turning import Rotation, Stream
from onnxprune.settings import Settings
from onnxprune.surgery.rotation import folded, rotated, rotations_of, values_of


def basis(size: int, *first: np.ndarray) -> np.ndarray:
    """An orthonormal basis as columns, the given directions first."""
    rng = np.random.default_rng(len(first))
    columns = [*first, *rng.standard_normal((size - len(first), size))]
    q, r = np.linalg.qr(np.stack(columns, 1))
    return q * np.sign(np.diag(r))


def matrix(size: int = WIDTH, centred: bool = True) -> np.ndarray:
    """An orthogonal matrix, which leaves (1, …, 1) where it is if that is asked for."""
    if not centred:
        return basis(size).astype(np.float32)
    ones = np.ones(size)
    mixed = basis(size - 1)
    other = basis(size, ones)
    turn = np.eye(size)
    turn[1:, 1:] = mixed
    return (other @ turn @ other.T).astype(np.float32)


def streams(analysis: Analysis) -> list[Stream]:
    each = [find_stream(analysis, group) for group in analysis.groups]
    return [one for one in each if isinstance(one, Stream)]


@pytest.fixture(scope="module")
def transformer() -> Analysis:
    return analyze(vision_transformer(), biases=True)


def test_a_turned_model_computes_what_it_did(transformer: Analysis):
    (stream,) = streams(transformer)
    turned = Rotation(stream.group.name, matrix())
    stage = rotated(transformer, [turned], Settings())
    assert stage.proof.passed and stage.rotations == (turned,)
    assert 0 < stage.proof.max_relative_error < 1e-5
    assert "turned to principal directions" in stage.told
    kinds = [[n.op_type for n in m.graph.node] for m in (stage.model, transformer.model)]
    assert kinds[0] == kinds[1]


def test_folding_alone_leaves_ones_and_zeros(transformer: Analysis):
    found = streams(transformer)
    flat = folded(transformer, found)
    held = {use.tensor: use.kind for use in found[0].uses if use.kind != "turned"}
    assert len(held) == 10
    for name, kind in held.items():
        assert np.all(flat.read(name) == (kind == "ones"))


def wide(groups: int = 1, **attrs: str) -> onnx.ModelProto:
    """A stream that a convolution reads behind its normalisation."""
    n = Block(x=(2, WIDTH, WIDTH))
    y = n.linear("x", WIDTH, WIDTH)
    y = n.op("Add", y, n.mlp(n.norm(y)))
    z = n.op("Transpose", n.norm(y), perm=[0, 2, 1])
    weights = n.weight(6, WIDTH // groups, 3), n.weight(6)
    return n.model(n.op("Conv", z, *weights, group=groups, **attrs))


def test_convolutions_take_beta_over_all_taps():
    analysis = analyze(wide(), biases=True)
    (stream,) = streams(analysis)
    stage = rotated(analysis, [Rotation(stream.group.name, matrix())], Settings())
    assert stage.proof.passed


def test_convolutions_that_see_zeros_beside_beta_are_left_alone():
    assert streams(analyze(wide(auto_pad="SAME_UPPER"), biases=True)) == []


def test_scales_of_what_is_written_are_folded():
    n = Block(**DATA)
    y = n.linear("x", WIDTH, WIDTH)
    y = n.op("Add", y, n.op("Mul", n.mlp(n.norm(y)), n.positive(WIDTH)))
    analysis = analyze(n.model(n.linear(n.norm(y), WIDTH, 10)), biases=True)
    (stream,) = streams(analysis)
    assert rotated(analysis, [Rotation(stream.group.name, matrix())], Settings()).proof.passed


def test_grouped_convolutions_are_left_alone():
    assert streams(analyze(wide(2), biases=True)) == []


def test_a_matrix_that_is_not_orthogonal_fails_the_proof(transformer: Analysis):
    (stream,) = streams(transformer)
    skewed = matrix()
    skewed[:, 0] *= 1.5
    skewed /= skewed.sum(1, keepdims=True)
    with pytest.raises(ProofError, match="turning streams changed output"):
        rotated(transformer, [Rotation(stream.group.name, skewed)], Settings())


def test_plans_hold_matrices_as_they_are():
    first = Rotation("w", matrix(8))
    (again,) = rotations_of(values_of([first]))
    assert again.group == "w" and np.array_equal(again.matrix, first.matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrix": "%"}, "cannot be read"),
        ({"size": 9}, "cannot be read"),
        ({"size": None}, "cannot be read"),
        ({"matrix": values_of([Rotation("w", np.ones((8, 8), np.float32))])[0]["matrix"]},
         "'w' by a matrix that is not orthogonal"),
    ],
)  # fmt: skip
def test_wrong_matrices_are_refused(change: dict[str, Any], message: str):
    (entry,) = values_of([Rotation("w", matrix(8))])
    with pytest.raises(InputError, match=message):
        rotations_of([{**entry, **change}])


@pytest.mark.parametrize(
    ("name", "turned", "message"),
    [
        ("other", matrix(), "the model has no such group"),
        ("", matrix(8), "with 8 channels; the model has no such group"),
        ("", matrix(centred=False), "does not keep the mean, which LayerNorm subtracts"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    transformer: Analysis, name: str, turned: np.ndarray, message: str
):
    (stream,) = streams(transformer)
    one = Rotation(name or stream.group.name, turned)
    with pytest.raises(InputError, match=message):
        rotated(transformer, [one], Settings())


def test_a_stream_that_cannot_be_turned_says_why():
    n = Block(**DATA)
    y = n.relu(n.linear("x", WIDTH, WIDTH))
    y = n.op("Add", y, n.mlp(n.norm(y)))
    analysis = analyze(n.model(n.linear(n.norm(y), WIDTH, 10)), biases=True)
    group = next(g for g in analysis.groups if isinstance(find_stream(analysis, g), str))
    with pytest.raises(InputError, match=r"which cannot be: .*Relu.* is not linear"):
        rotated(analysis, [Rotation(group.name, matrix())], Settings())
