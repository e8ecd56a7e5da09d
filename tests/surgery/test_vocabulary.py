"""Rows of tokens go with their scores; what computes with numbers of tokens refuses."""

import numpy as np
import onnx
import pytest
from networks import Net
from onnx_text import stored
from transformer_networks import SEQUENCE, WIDTH, WORDS, Block, gpt_with_tied_head

from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.surgery.vocabulary import (
    Vocabulary,
    find_vocabulary,
    mapping,
    prove_tokens,
    with_tokens,
)

KEPT = np.array([0, 1, 5, 7, 20, 33, 49])
ROWS = 50


def made(model: onnx.ModelProto) -> tuple[Analysis, Vocabulary, onnx.ModelProto]:
    analysis = analyze(model)
    found = find_vocabulary(analysis)
    return analysis, found, with_tokens(analysis, found, KEPT)


def classifier(n: Block, y: str) -> onnx.ModelProto:
    model = n.model(n.linear(y, WIDTH, 4))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return onnx.shape_inference.infer_shapes(model)


def looked_up(n: Net) -> str:
    return str(n.op("Gather", n.weight(ROWS, WIDTH), "ids"))


def test_a_tied_head_loses_the_same_tokens():
    analysis, found, model = made(gpt_with_tied_head())
    assert found.size == ROWS and found.inputs == ("ids",)
    assert len(found.outputs) == 1 and not found.compared
    assert prove_tokens(analysis, found, KEPT, model, 0).max_relative_error < 1e-6
    (table,) = (value for value in stored(model).values() if value.shape == (len(KEPT), WIDTH))
    before = next(v for v in stored(analysis.model).values() if v.shape == (ROWS, WIDTH))
    assert np.array_equal(table, before[KEPT])
    assert model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value == len(KEPT)
    assert mapping(found, KEPT)["kept"] == KEPT.tolist()


def test_a_head_of_its_own_loses_weights_and_bias():
    n = Block(**WORDS)
    y = n.norm(looked_up(n))
    analysis, found, model = made(n.tokens(n.linear(y, WIDTH, ROWS)))
    assert prove_tokens(analysis, found, KEPT, model, 0).passed
    assert sorted(v.shape for v in stored(model).values() if len(KEPT) in v.shape) == [
        (len(KEPT),), (len(KEPT), WIDTH), (WIDTH, len(KEPT))]  # fmt: skip


def test_shares_of_tokens_keep_all_scores():
    n = Block(**WORDS)
    y = n.op("Softmax", n.linear(looked_up(n), WIDTH, ROWS), axis=-1)
    analysis, found, model = made(n.tokens(y))
    assert not found.outputs
    assert prove_tokens(analysis, found, KEPT, model, 0).passed


def test_two_tables_behind_one_input_lose_the_same_rows():
    n = Block(**WORDS)
    y = n.op("Add", looked_up(n), looked_up(n))
    analysis, found, model = made(classifier(n, y))
    assert len(found.axes) == 2
    assert prove_tokens(analysis, found, KEPT, model, 0).passed


def masked(n: Block, kind: str, token: int) -> onnx.ModelProto:
    """The mean of the rows whose numbers compare with a token's."""
    flags = n.op(kind, "ids", n.const(np.array(token)))
    counted = n.op("Unsqueeze", n.op("Cast", flags, to=1), n.ints(2))
    y = n.op("ReduceMean", n.op("Mul", looked_up(n), counted), axes=[1], keepdims=0)
    return classifier(n, y)


@pytest.mark.parametrize(("kind", "token"), [("Equal", 7), ("Equal", 8), ("Less", 7)])
def test_numbers_that_are_compared_with_are_new_ones(kind: str, token: int):
    analysis, found, model = made(masked(Block(**WORDS), kind, token))
    assert len(found.compared) == 1
    assert prove_tokens(analysis, found, KEPT, model, 0).passed
    number = stored(model)[f"{next(iter(found.compared))}/own"]
    assert number == (3 if token == 7 else -1)


def test_fewer_tokens_of_fewer_tokens():
    _, _, model = made(masked(Block(**WORDS), "Equal", 7))
    analysis, kept = analyze(model), np.array([1, 3, 4])
    found = find_vocabulary(analysis)
    again = with_tokens(analysis, found, kept)
    assert prove_tokens(analysis, found, kept, again, 0).passed
    assert stored(again)[f"{next(iter(found.compared))}/own_"] == 1


def test_an_order_is_asked_of_tokens_that_stay():
    with pytest.raises(InputError, match=r"compares numbers of tokens with 8, which would go"):
        made(masked(Block(**WORDS), "Less", 8))


def begun(*first: str) -> onnx.ModelProto:
    """Rows of numbers that the model puts in itself, before those of its input."""
    n = Block(ids=(1, SEQUENCE))
    n.const(np.array([[7]]), "stored")
    y = n.op("Gather", n.weight(ROWS, WIDTH), n.op("Concat", *first, "ids", axis=1))
    return classifier(n, y)


def test_numbers_that_are_joined_with_are_new_ones():
    analysis, found, model = made(begun("stored"))
    assert prove_tokens(analysis, found, KEPT, model, 0).passed
    assert stored(model)[f"{next(iter(found.compared))}/own"] == 3
    with pytest.raises(InputError, match="puts in token 7, which would go: keep it"):
        with_tokens(analysis, found, np.array([0, 1]))


def test_numbers_that_are_joined_with_computed_ones_refuse():
    n = Block(ids=(1, SEQUENCE))
    first = n.op("Shape", n.op("Slice", "ids", n.ints(0), n.ints(1), n.ints(1)))
    full = n.op("Concat", n.op("Unsqueeze", n.op("Gather", first, n.ints(1)), n.ints(0)), "ids",
                axis=1)  # fmt: skip
    with pytest.raises(InputError, match="computes with numbers of tokens"):
        made(classifier(n, n.op("Gather", n.weight(ROWS, WIDTH), full)))


def test_numbers_are_picked_before_they_look_up_rows():
    n = Block(ids=(1, SEQUENCE))
    first = n.op("Gather", "ids", n.ints(0), axis=1)
    analysis, found, model = made(classifier(n, n.op("Gather", n.weight(ROWS, WIDTH), first)))
    assert found.size == ROWS
    assert prove_tokens(analysis, found, KEPT, model, 0).passed


def test_tables_with_a_column_for_each_token_lose_columns():
    n = Block(**WORDS)
    columns = n.op("Gather", n.weight(WIDTH, ROWS), "ids", axis=1)
    model = classifier(n, n.op("Transpose", columns, perm=[1, 2, 0]))
    analysis, found, model = made(model)
    assert found.size == ROWS
    assert prove_tokens(analysis, found, KEPT, model, 0).passed


def test_a_number_that_serves_elsewhere_too_stays_there():
    n = Block(**WORDS)
    seven = n.const(np.array(7))
    flags = n.op("Cast", n.op("Equal", "ids", seven), to=1)
    other = n.op("Cast", seven, to=1)
    y = n.op("Mul", other, n.op("ReduceMean", looked_up(n), axes=[1], keepdims=0))
    y = n.op("Mul", y, n.op("ReduceMean", flags, axes=[1], keepdims=1))
    analysis, found, model = made(classifier(n, y))
    assert prove_tokens(analysis, found, KEPT, model, 0).passed


def test_tables_that_are_cast_lose_rows_where_they_are_stored():
    n = Block(**WORDS)
    rows = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float16)
    table = n.op("Cast", n.const(rows), to=1)
    analysis, found, model = made(classifier(n, n.op("Gather", table, "ids")))
    assert prove_tokens(analysis, found, KEPT, model, 0).passed
    assert any(v.dtype == np.float16 and len(v) == len(KEPT) for v in stored(model).values())


def test_tables_that_are_computed_refuse():
    n = Block(**WORDS)
    bytes_ = n.const(np.ones((ROWS, WIDTH), np.int8))
    table = n.op("DequantizeLinear", bytes_, n.positive(ROWS), axis=0)
    model = classifier(n, n.op("Gather", table, "ids"))
    with pytest.raises(InputError, match="which is computed: rows cannot go"):
        made(model)


def test_places_of_the_largest_number_stay():
    n = Block(**WORDS)
    place = n.op("ArgMax", "ids", axis=1, keepdims=1)
    flags = n.op("Cast", place, to=1)
    y = n.op("Add", n.op("ReduceMean", looked_up(n), axes=[1], keepdims=0), flags)
    analysis, found, model = made(classifier(n, y))
    assert prove_tokens(analysis, found, KEPT, model, 0).passed


@pytest.mark.parametrize("kind", ["computed", "flags", "table"])
def test_what_computes_with_numbers_or_rows_refuses(kind: str):
    n = Block(**WORDS)
    table = n.weight(ROWS, WIDTH)
    y = n.op("Gather", table, "ids")
    if kind == "table":
        total = n.op("ReduceMean", table, axes=[0], keepdims=0)
        model = classifier(n, n.op("Add", y, total))
    else:
        other = n.op("Cast", "ids", to=9 if kind == "flags" else 1)
        other = n.op("Cast", other, to=1) if kind == "flags" else n.op("Mul", other, n.scalar(0.1))
        model = classifier(n, n.op("Add", y, n.op("Unsqueeze", other, n.ints(2))))
    found = "reads '.*' which has a place for each token" if kind == "table" else "computes with"
    with pytest.raises(InputError, match=found.replace("' which", "', which")):
        made(model)


def test_models_without_tokens_say_so():
    n = Block(x=("N", SEQUENCE, WIDTH))
    with pytest.raises(InputError, match="no input holds numbers of tokens"):
        find_vocabulary(analyze(n.model(n.linear("x", WIDTH, 4))))


def test_wrong_rows_fail_the_proof():
    analysis, found, _ = made(gpt_with_tied_head())
    wrong = with_tokens(analysis, found, np.array([0, 1, 5, 7, 20, 32, 49]))
    with pytest.raises(ProofError, match="without the tokens that go output"):
        prove_tokens(analysis, found, KEPT, wrong, 0)
