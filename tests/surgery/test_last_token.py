"""A head reads the last place, which gives the original's last scores; others are refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from transformer_networks import SEQUENCE, WIDTH, WORDS, Block, gpt_with_tied_head

from onnxprune.cli import main
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import analyze
from onnxprune.pipeline.last_token import last_token
from onnxprune.settings import Settings
from onnxprune.surgery.cut import running
from onnxprune.surgery.last_token import heads, prove_last


def test_a_tied_head_gives_one_place():
    model = gpt_with_tied_head()
    result = last_token(model)
    assert result.proof.passed and len(result.outputs) == 1
    assert result.macs[1] < result.macs[0]
    shape = result.model.graph.output[0].type.tensor_type.shape.dim
    assert shape[-2].dim_value == 1 and shape[-1].dim_value == 50
    onnx.checker.check_model(result.model, full_check=True)
    assert "of the last place alone" in result.text()
    assert last_token(result.model).proof.passed


def test_what_is_done_to_scores_stays():
    n = Block(**WORDS)
    y = n.op("Gather", n.weight(50, WIDTH), "ids")
    y = n.op("Mul", n.op("Tanh", n.op("Mul", n.linear(y, WIDTH, 9), n.scalar(0.5))), n.scalar(2))
    result = last_token(n.tokens(y))
    assert result.proof.passed
    assert [node.op_type for node in result.model.graph.node][1] == "Slice"


@pytest.mark.parametrize("kind", ["shares of places", "numbers of places", "no places"])
def test_scores_that_places_do_not_have_alone_refuse(kind: str):
    n = Block(**WORDS)
    y = n.linear(n.op("Gather", n.weight(50, WIDTH), "ids"), WIDTH, 9)
    if kind == "shares of places":
        y = n.op("Softmax", y, axis=1)
    elif kind == "numbers of places":
        y = n.op("Add", y, n.weight(SEQUENCE, 9))
    else:
        y = n.op("ReduceMean", y, axes=[1], keepdims=0)
    with pytest.raises(InputError, match=r"no output holds scores .* Leave last-token out"):
        last_token(n.tokens(y))


def test_other_scores_fail_the_proof():
    model = gpt_with_tied_head()
    analysis = analyze(model)
    made = last_token(model).model
    starts = next(t for t in made.graph.initializer if t.name.endswith("read_1"))
    starts.CopyFrom(onnx.numpy_helper.from_array(np.array([0]), starts.name))
    ends = next(t for t in made.graph.initializer if t.name.endswith("read_2"))
    ends.CopyFrom(onnx.numpy_helper.from_array(np.array([1]), ends.name))
    with running(analysis, Settings()) as original, pytest.raises(ProofError, match="is off by"):
        prove_last(heads(analysis), made, original)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(gpt_with_tied_head(), "m.onnx")
    shown = CliRunner().invoke(main, "prune m.onnx small.onnx --last-token".split())
    assert shown.exit_code == 0 and "equal to the original's last place" in shown.output
    words = "prune m.onnx other.onnx --last-token --keep-tokens ids".split()
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2 and not Path("other.onnx").exists()
    assert "--last-token does not go with --keep-tokens: use that on what" in refused.output
