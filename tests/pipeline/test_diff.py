"""A pruned model beside its original, and models that cannot be counted."""

import onnx
import pytest
from click.testing import CliRunner
from onnx_text import parsed
from text_models import perceptron

import onnxprune
from onnxprune.cli import main


@pytest.fixture(scope="module")
def pruned() -> onnx.ModelProto:
    settings = onnxprune.Settings(latency=False, compensate=False, round_to=1)
    return onnxprune.prune(perceptron(), {"ratio": 0.5}, settings).model


def test_a_pruned_model_reads_well(pruned: onnx.ModelProto) -> None:
    found = onnxprune.diff(perceptron(), pruned)
    assert not found.equal and found.changes.gone == found.changes.new == []
    shapes = {w.name: (w.before, w.after) for c in found.changes.changed for w in c.weights}
    assert shapes == {"a": ("4x3", "2x3"), "b": ("4", "2"), "c": ("2x4", "2x2")}
    assert found.totals["macs"] == (20, 10) and found.totals["params"] == (26, 14)
    assert found.changes.interface == {}


def test_what_cannot_be_counted_is_said() -> None:
    strange = parsed("m (float[2] x) => (float[2] y) { y = com.microsoft.Strange (x) }")
    found = onnxprune.diff(perceptron(), strange)
    assert found.totals["macs"] == (20, None) or found.totals["macs"][1] == 0


def test_the_command_ends_as_diff_does(tmp_path, pruned: onnx.ModelProto) -> None:
    names = [str(tmp_path / name) for name in ("a.onnx", "b.onnx")]
    onnx.save(perceptron(), names[0])
    onnx.save(pruned, names[1])

    def run(*words: str):
        return CliRunner().invoke(main, ["diff", *words])

    assert run(names[0], names[0]).exit_code == 0
    found = run(*names)
    assert found.exit_code == 1 and "a 4x3 → 2x3" in found.output
    assert '"equal": false' in run(*names, "--json").output
    assert run(names[0], "missing.onnx").exit_code == 2
