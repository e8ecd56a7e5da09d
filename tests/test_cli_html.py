"""Pages that commands write: each of them, whole or not at all, with the command that made it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from networks import NETWORKS, samples_of
from pages import assert_page, report_in

from onnxprune import cli_measure
from onnxprune.cli import main
from onnxprune.pipeline import bench

SCORE = "import numpy as np\ndef score(session):\n    return 1.0\n"
RECIPE = """\
[[stage]]
kind = "prune"
target = { macs = 0.7 }
[[stage]]
kind = "sparsify"
sparsity = 0.5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a model whose first weight has a hostile name, and samples."""
    model = NETWORKS["residual_spine"]()
    old, new = model.graph.initializer[0].name, "w</script><script>alert(1)</script>"
    model.graph.initializer[0].name = new
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "calib.npz", **samples_of(model, np.random.default_rng(0), 16))
    (tmp_path / "score.py").write_text(SCORE)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == code, result.output
    return result


COMMANDS = [
    "prune m.onnx o.onnx --target macs=0.6 --calib calib.npz --no-distill --no-latency",
    "prune m.onnx o.onnx --evaluate score.py:score --max-drop 1 --target macs=0.9 --no-latency",
    "prune m.onnx o.onnx --target macs=0.6 --then sparsify=0.5 --no-latency",
    "sparsify m.onnx o.onnx --sparsity 0.5 --no-latency",
    "run recipe.toml m.onnx o.onnx --no-latency",
    "check m.onnx m.onnx --max-drop 0.5 --no-latency --data calib.npz",
    "sensitivity m.onnx --calib calib.npz",
    "sweep m.onnx --targets macs=0.8,macs=0.6 --calib calib.npz --no-distill --no-latency",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_writes_its_page(line: str, folder: Path) -> None:
    run(f"{line} --html page.html")
    text = (folder / "page.html").read_text(encoding="utf-8")
    made = assert_page(text)
    assert line.partition(" ")[0] in made.text and "--html page.html" in made.text
    assert isinstance(report_in(text), dict)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_page_holds_the_report_and_the_command_that_gives_the_same_page(folder: Path) -> None:
    line = f"{COMMANDS[0]} --report report.json"
    run(f"{line} --target params=0.95 --exclude alert -q --html page.html")
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert report_in(text) == json.loads((folder / "report.json").read_text())
    shown = text.partition("<code>onnxprune ")[2].partition("</code>")[0]
    (folder / "page.html").unlink()
    run(shown.replace("'", ""))
    assert (folder / "page.html").read_text(encoding="utf-8") == text


def test_bench_and_apply(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_measure, "run_bench", partial(bench.bench, seconds=0.01))
    monkeypatch.setattr(bench, "_memory", lambda *_: None)
    run("bench m.onnx --html page.html")
    assert "m.onnx" in assert_page((folder / "page.html").read_text(encoding="utf-8")).text
    run("prune m.onnx o.onnx --target macs=0.7 --no-latency --plan plan.json -q")
    run("apply m.onnx plan.json o.onnx --no-latency -q --html page.html")
    made = assert_page((folder / "page.html").read_text(encoding="utf-8"))
    assert "onnxprune apply m.onnx plan.json o.onnx" in made.text


@pytest.mark.parametrize("line", [*COMMANDS, "bench m.onnx"])
def test_a_page_that_cannot_be_written_stops_the_command_before_it_works(
    line: str, folder: Path
) -> None:
    result = run(f"{line} --html nowhere/page.html", code=2)
    assert "nowhere/page.html: the folder nowhere does not exist. Create it first." in result.output
    assert len(result.output.splitlines()) == 1 and not (folder / "o.onnx").exists()
    taken = run(f"{line} --html m.onnx", code=2).output
    assert "m.onnx: is " in taken and "Choose another file." in taken


def test_a_gate_that_fails_is_on_the_page(folder: Path) -> None:
    run("prune m.onnx o.onnx --target macs=0.5 --no-latency --no-compensate -q")
    run("check m.onnx o.onnx --no-latency --max-drop 0 --html page.html", code=4)
    made = assert_page((folder / "page.html").read_text(encoding="utf-8"))
    assert "1 of 1 gates fail." in made.text and "FAILED" in made.text


def test_what_stays_of_every_node(folder: Path) -> None:
    run("prune m.onnx o.onnx --target macs=0.6 --no-latency -q --overlay nodes.json")
    (graph,) = json.loads((folder / "nodes.json").read_text()).values()
    assert any(row["value"] < 1 for row in graph["results"].values())
    both = "--then sparsify=0.5 --overlay n.json"
    refused = run(f"prune m.onnx o.onnx --target macs=0.6 {both}", code=2)
    assert "--then goes with neither --overlay nor --annotate" in refused.output


def test_a_model_that_says_what_stays(folder: Path) -> None:
    """`apply` writes what `prune` did; of a file that would get too large nothing is written."""
    words = "--no-latency -q --annotate"
    run(f"prune m.onnx a.onnx --target macs=0.6 --no-compensate --plan p.json {words}")
    run(f"apply m.onnx p.json b.onnx --report r.json {words}")
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()
    model, values = onnx.load(folder / "b.onnx"), json.loads((folder / "r.json").read_text())
    assert any(e.key == "onnxprune.kept" for node in model.graph.node for e in node.metadata_props)
    assert values["after"]["bytes"] == (folder / "b.onnx").stat().st_size
    plain = values["before"]["bytes"] * values["achieved"]["size"] - 30
    refused = run(f"prune m.onnx c.onnx --target size={plain:.0f}B {words}", code=2)
    assert "annotate: the file takes " in refused.output and not (folder / "c.onnx").exists()
