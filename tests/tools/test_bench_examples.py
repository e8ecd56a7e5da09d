"""The scripts of examples/: short, without paths of a machine, each of them run by the bench."""

import ast
import runpy
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import Net
from paths import ROOT, TOOLS

sys.path.insert(0, str(TOOLS))

from bench_examples import EXAMPLES, HEADER, row_of

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_says_how_it_is_called(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert f"    python examples/{path.name}" in str(ast.get_docstring(ast.parse(text)))
    assert "shared" not in text and "/home" not in text
    assert path.name in (ROOT / "examples/README.md").read_text(encoding="utf-8")


def test_the_bench_runs_all_of_them() -> None:
    assert sorted(example.script for example in EXAMPLES) == [path.name for path in SCRIPTS]


def test_a_row_says_what_came_out() -> None:
    told = ["verdict half the MACs, proof passed", "boxes that both find: 9 of 10"]
    row = row_of({"script": "a.py", "lines": 50, "told": told, "seconds": 3.4})
    assert row == (
        *("`a.py`", "50", "half the MACs, proof passed; boxes that both find: 9 of 10", "3"),
    )
    assert len(row) == len(HEADER)
    assert row_of({"script": "a.py", "lines": 5, "skipped": "no"})[2] == "skipped: no"


def test_one_of_them_on_a_small_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    n = Net(image=("N", 3, 8, 8))
    pooled = n.op("GlobalAveragePool", n.relu(n.conv("image", 3, 16)))
    onnx.save(n.model(n.gemm(n.op("Flatten", pooled), 16, 2)), tmp_path / "m.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 3, 8, 8), np.uint8)
    labels = np.arange(8) % 2
    np.savez(tmp_path / "lines.npz", calib=pixels[:16], x=pixels[16:], labels=labels)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ocr_angle.py", "m.onnx", "lines.npz", "0.8"])
    runpy.run_path(str(ROOT / "examples/ocr_angle.py"))
    assert "verdict   0." in capsys.readouterr().out and (tmp_path / "m_pruned.onnx").exists()
