"""The command `sensitivity`, and the cache of what it measured."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS

import onnxprune
from onnxprune import InputError
from onnxprune.calibration.samples import calibration
from onnxprune.cli import main
from onnxprune.groups.analysis import analyze
from onnxprune.importance.ranking import rank
from onnxprune.importance.sensitivity import measure_sensitivities
from onnxprune.importance.units_channels import channel_arrays, units_of
from onnxprune.ir import graph
from onnxprune.pipeline import sensitivity_table


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.onnx"
    onnx.save(NETWORKS["chain"](), path)
    return path


def run(*words: object, code: int = 0):
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def test_text_json_and_cache_agree(chain: Path, tmp_path: Path):
    words = ["sensitivity", chain, "--calib", "random", "--calib-samples", 8]
    words += ["--cache", tmp_path / "c.json"]
    text = run(*words)
    assert "calibrated on 8 samples: random inputs" in text and "say little" in text
    cached = run(*words)
    assert f"note      sensitivities were taken from {tmp_path}/c.json" in cached
    values = json.loads(run(*words, "--json", "-"))
    analysis = analyze(onnx.load(chain))
    assert [g["name"] for g in values["groups"]] == [g.name for g in analysis.groups]
    for group in values["groups"]:
        assert group["measured"][0] == {"width": group["channels"], "divergence": 0.0}
        assert len(group["errors"]) == group["channels"] + 1
        for row in group["measured"][1:]:
            assert f"{row['width']}: {row['divergence']:.2g}" in text
    run(*words, "--json", tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == values


def test_other_data_or_settings_are_measured_anew(chain: Path, tmp_path: Path):
    settings: dict[str, Any] = {"calib_samples": 8, "cache": tmp_path / "c.json", "calib": "random"}
    changes: list[dict[str, Any]] = [
        {}, {"seed": 1}, {"calib_samples": 4}, {"importance": "l1"}, {"exclude": "c0"}, {},
    ]  # fmt: skip
    made = [onnxprune.sensitivity_table(chain, **settings | change) for change in changes]
    taken = [any("taken from" in note for note in table.notes) for table in made]
    assert taken == [False] * 5 + [True]
    other = NETWORKS["chain"]()
    other.doc_string = "another file"
    assert not any("taken" in n for n in onnxprune.sensitivity_table(other, **settings).notes)
    assert len(json.loads((tmp_path / "c.json").read_text())["entries"]) == 6


def test_plot(chain: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    words = ["sensitivity", chain, "--calib", "random", "--calib-samples", 4, "--plot"]
    run(*words, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "cannot be drawn" in run(*words, tmp_path / "p.txt.nonsense", code=2)


def test_a_plot_without_matplotlib(chain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data = calibration("random", onnx.load(chain), onnxprune.Settings(calib_samples=2))
    with pytest.raises(InputError, match=r"pip install 'onnxprune\[plot\]'"):
        sensitivity_table.SensitivityTable((), data).plot("p.png")


def test_refusals(chain: Path, tmp_path: Path):
    words = ["sensitivity", chain]
    assert "need calibration data: --calib" in run(*words, code=2)
    words += ["--calib", "random"]
    assert "is the input itself" in run(*words, "--json", chain, code=2)
    assert "does not exist" in run(*words, "--plot", tmp_path / "no" / "p.png", code=2)
    assert "is a folder" in run(*words, "--cache", tmp_path, code=2)


def test_inputs_without_samples_are_measured_too():
    """A scalar comes first: what counts are runs."""
    model = NETWORKS["chain"]()
    (value,) = graph.graph_inputs(model)
    first = onnx.helper.make_tensor_value_info("factor", 1, [])
    scaled = onnx.helper.make_node("Mul", [value.name, "factor"], ["scaled"])
    for node in model.graph.node:
        node.input[:] = ["scaled" if name == value.name else name for name in node.input]
    model.graph.node.insert(0, scaled)
    model.graph.input.insert(0, first)
    sizes = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
    draw = np.random.default_rng(2).standard_normal
    feeds = [
        {"factor": np.float32(1 + k), value.name: draw(sizes).astype(np.float32)} for k in range(5)
    ]
    analysis = analyze(model)
    data = calibration(feeds, model, onnxprune.Settings(), analysis.nodes)
    assert data.sizes == (1,) * 5
    analysis, scores = rank(analysis, "l2", 0)
    for sensitivity in measure_sensitivities(
        analysis, units_of(analysis, channel_arrays(analysis, scores, data)), data
    ):
        assert min(sensitivity.measured.values()) == 0 < max(sensitivity.measured.values())
