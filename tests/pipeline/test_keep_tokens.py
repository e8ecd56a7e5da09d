"""Tokens that stay are read from a file, and the map of numbers is written beside the model."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from transformer_networks import gpt_with_tied_head

from onnxprune.cli import main
from onnxprune.errors import InputError
from onnxprune.pipeline.keep_tokens import keep_tokens, read_tokens

MODEL = gpt_with_tied_head()


def test_model_and_map_are_written(tmp_path: Path):
    (tmp_path / "ids.txt").write_text("7 3\n3\n0")
    result = keep_tokens(MODEL, tmp_path / "ids.txt")
    written = result.save(tmp_path / "small.onnx")
    assert written == [tmp_path / "small.onnx", tmp_path / "small.tokens.json"]
    content = json.loads((tmp_path / "small.tokens.json").read_text())
    assert content["kept"] == [0, 3, 7] and content["tokens"] == 50
    assert content["inputs"] == ["ids"] and len(content["outputs"]) == 1
    assert "3 of 50 kept" in result.text() and "equal to the original" in result.text()
    assert result.bytes[1] < result.bytes[0]
    onnx.checker.check_model(str(tmp_path / "small.onnx"))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("[1, 2.5]", "holds something else than whole numbers"),
        ("one two", "holds something else than whole numbers"),
        ("[true]", "holds something else"),
        ("[1, [2]]", "holds something else"),
        ("[1,", "Give numbers, or a JSON list"),
        ("", "holds no numbers"),
        ("99999999999999999999", "holds something else"),
    ],
)
def test_files_that_hold_no_numbers_say_so(tmp_path: Path, tokens: str, message: str):
    (tmp_path / "ids.json").write_text(tokens)
    with pytest.raises(InputError, match=message):
        read_tokens(tmp_path / "ids.json")


def test_numbers_come_from_lists_too():
    assert read_tokens(np.array([4, 2])).tolist() == [2, 4]
    with pytest.raises(InputError, match="token 50: the model has tokens 0 to 49"):
        keep_tokens(MODEL, [3, 50])
    with pytest.raises(InputError, match=r"no.file: cannot be read: No such file"):
        read_tokens("no.file")
    with pytest.raises(InputError, match="tokens: holds something else than whole numbers"):
        read_tokens(5)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(MODEL, "m.onnx")
    Path("ids").write_text("[0, 4, 9]")
    shown = CliRunner().invoke(main, "prune m.onnx small.onnx --keep-tokens ids".split())
    assert "3 of 50 kept" in shown.output and "small.tokens.json" in shown.output
    words = "prune m.onnx other.onnx --keep-tokens ids --target macs=0.5".split()
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "--keep-tokens does not go with --target: use that on what it" in refused.output
    assert not Path("other.onnx").exists() and not Path("other.tokens.json").exists()


@pytest.mark.parametrize("output", ["small.onnx", "small.tokens.json"])
def test_the_list_of_tokens_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
):
    monkeypatch.chdir(tmp_path)
    onnx.save(MODEL, "m.onnx")
    Path("small.tokens.json").write_text("[0, 4, 9]")
    words = f"prune m.onnx {output} --keep-tokens small.tokens.json"
    shown = CliRunner().invoke(main, words.split())
    assert shown.exit_code == 2
    assert "small.tokens.json: is the input itself. Choose another" in shown.output
    assert Path("small.tokens.json").read_text() == "[0, 4, 9]"
    assert not Path("small.onnx").exists()
