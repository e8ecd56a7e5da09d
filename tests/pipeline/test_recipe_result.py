"""What the report of a recipe says of its stages."""

from pathlib import Path

import onnx
from networks import NETWORKS

from onnxprune.ir.model import read_model
from onnxprune.pipeline.recipe_result import RecipeResult, StageReport

MODEL = read_model(NETWORKS["chain"]())
DRIFT = {"accuracy": (0.9, 0.8), "agreement": 0.75}


def result(*stages: StageReport) -> RecipeResult:
    return RecipeResult(MODEL, "hash", 2000, stages, {"cpu": "x"}, 0.5, ("a note",))


def test_a_line_for_each_stage():
    first = StageReport("prune", 1000, 1.5, DRIFT, (2.0, 1.0), 0.25, {})
    second = StageReport("quantise", 500, 0.1, {}, None, None, {}, resumed=True)
    lines = result(first, second).text().splitlines()
    assert lines[0].split() == ["stage", "file", "ratio", "latency", "top-1", "agreement", "score"]
    assert lines[1].split() == ["original", "2", "kB", "1.000", "0.5"]
    assert lines[2].split() == ["prune", "1", "kB", "0.500", "1", "ms", "(0.50)", "90.00%", "→",
                                "80.00%", "75.0%", "0.25"]  # fmt: skip
    assert lines[3].split() == ["quantise", "(resumed)", "500", "B", "0.250"]
    assert lines[4:] == ["recipe    hash", "note      a note"]


def test_values_and_the_model(tmp_path: Path):
    values = result(StageReport("prune", 1000, 1.5, DRIFT, None, None, {"x": 1})).values()
    assert (values["recipe"], values["bytes"], values["score"]) == ("hash", 2000, 0.5)
    assert values["stages"][0]["details"] == {"x": 1} and values["notes"] == ["a note"]
    assert result().model == MODEL.proto
    result().save(tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == MODEL.proto
