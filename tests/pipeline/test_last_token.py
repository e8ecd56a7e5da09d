"""The result of a model that gives scores of the last place."""

from pathlib import Path

import onnx
from transformer_networks import gpt_with_tied_head

from onnxprune.pipeline.last_token import last_token


def test_the_model_is_written(tmp_path: Path):
    result = last_token(gpt_with_tied_head())
    assert result.save(tmp_path / "m.onnx") == [tmp_path / "m.onnx"]
    written = onnx.load(tmp_path / "m.onnx")
    assert len(written.graph.node) == len(gpt_with_tied_head().graph.node) + 1
