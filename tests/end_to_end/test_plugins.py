"""A package with entry points is found by the names that users give, and only then imported."""

import importlib
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS
from onnx_text import parsed
from paths import ROOT

import onnxprune
from onnxprune import user_code
from onnxprune.allocation.latency.timer import REFERENCE
from onnxprune.cli import main
from onnxprune.errors import InputError
from onnxprune.importance.criteria import CRITERIA
from onnxprune.ops.user_rules import read
from onnxprune.pipeline.recipe import then

EXAMPLE = ROOT / "examples/plugin"
COMMAND = [sys.executable]


def stored(path: Path) -> list[np.ndarray]:
    return [onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]


def install(package: Path, folder: Path) -> None:
    """Put a package of one module and its entry points where Python finds them, as pip does."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    for module in package.glob("*.py"):
        shutil.copy(module, folder)
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    named = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(named)
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            for group, entries in project["entry-points"].items()
        )
    )


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    install(EXAMPLE, folder)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ("onnxprune_example", "onnxprune_example_timer"):
        sys.modules.pop(name, None)
    CRITERIA.pop("spread", None)


def test_nothing_is_imported_that_nobody_names(installed: Path) -> None:
    settings = onnxprune.Settings(latency=False, compensate=False, importance="l2")
    onnxprune.prune(NETWORKS["chain"](), {"ratio": 0.8}, settings)
    assert "onnxprune_example" not in sys.modules and "spread" not in CRITERIA


def test_a_criterion(installed: Path, tmp_path: Path) -> None:
    onnx.save(NETWORKS["chain"](), tmp_path / "m.onnx")
    words = ["prune", tmp_path / "m.onnx", tmp_path / "o.onnx", "--target", "ratio=0.8",
             "--importance", "spread", "--no-latency", "--no-compensate"]  # fmt: skip
    found = CliRunner().invoke(main, list(map(str, words)))
    assert found.exit_code == 0, found.output
    assert CRITERIA["spread"].__module__ == "onnxprune_example"


def test_rules(installed: Path) -> None:
    assert read("acme")["com.acme:Swoosh"].kind == "elementwise"
    assert user_code.content_of("acme") == ["acme", "onnxprune-example", "0.1"]


def test_a_stage_of_a_recipe_and_behind_then(installed: Path) -> None:
    recipe = onnxprune.recipe(
        {"stage": [{"kind": "sparsify", "sparsity": 0.5}, {"kind": "stamp", "made": "today"}]}
    )
    result = onnxprune.run(recipe, NETWORKS["chain"](), latency=False)
    assert [(e.key, e.value) for e in result.model.metadata_props] == [("made", "today")]
    assert result.stages[1].details == {"asked": {"made": "today"}}
    other = onnxprune.recipe(
        {"stage": [{"kind": "sparsify", "sparsity": 0.5}, {"kind": "stamp", "made": "now"}]}
    )
    assert onnxprune.run(other, NETWORKS["chain"](), latency=False).hash != result.hash
    assert then("stamp=x").options == {"value": "x"} and then("stamp").options == {}


#: What the example's process runs in place of itself: weights decide how long a model takes there.
MADE_UP = """import sys
sys.path.insert(0, sys.argv[1])
import onnx, onnxprune_example_timer as timer

def opened(path, feeds):
    model = onnx.load(path)
    weights = sum(onnx.numpy_helper.to_array(t).size for t in model.graph.initializer)
    return lambda: 1e-3 * (100 + weights)

timer.opened = opened
timer.serve()
"""


@pytest.fixture
def process(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The command of the process in which the example times models, with a clock that is made up.

    No test may rest on real time.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "made_up.py").write_text(MADE_UP)
    timer = importlib.import_module("onnxprune_example_timer")
    monkeypatch.setattr(timer, "COMMAND", [*COMMAND, str(tmp_path / "made_up.py"), str(installed)])
    yield timer.COMMAND
    if timer._process.cache_info().currsize:
        timer._process().stdin.close()
        timer._process().wait()
        timer._process().stdout.close()


def test_a_latency_is_met_as_a_second_process_measures_it(
    process: list[str], tmp_path: Path
) -> None:
    onnx.save(NETWORKS["chain"](), tmp_path / "m.onnx")
    words = ["prune", tmp_path / "m.onnx", tmp_path / "o.onnx", "--target", "latency=0.8",
             "--timer", "second-process", "--report", tmp_path / "r.json"]  # fmt: skip
    found = CliRunner().invoke(main, list(map(str, words)))
    assert found.exit_code == 0, found.output
    assert "measured  timer second-process, identity onnxruntime" in found.output
    report = json.loads((tmp_path / "r.json").read_text())
    weights = [sum(t.size for t in stored(tmp_path / name)) for name in ("m.onnx", "o.onnx")]
    assert weights[1] < weights[0] and 0.5 < report["achieved"]["latency"] <= 0.805
    share = (100 + weights[1]) / (100 + weights[0])
    assert report["achieved"]["latency"] == pytest.approx(share)


def test_the_real_clock_of_the_second_process(
    process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models run there: what does not run has no time."""
    timer = importlib.import_module("onnxprune_example_timer")
    monkeypatch.setattr(timer, "COMMAND", [sys.executable, timer.__file__])
    model, feeds = REFERENCE.model, REFERENCE.feeds
    first, none, again = timer.second_process([model, b"no model", model], [feeds, {}, feeds], 0.01)
    assert none is None and len(first) == len(again) >= timer.LEAST_RUNS
    assert all(seconds > 0 for seconds in (*first, *again))
    assert "onnxruntime" in timer.second_process.identity()


BROKEN = """[project]
name = "broken"
version = "1"
entry-points."onnxprune.stages" = {stamp = "broken:stamp", nothing = "broken:nothing"}
entry-points."onnxprune.criteria" = {fails = "broken:missing"}
"""


def test_what_is_wrong_with_a_plug_in_is_said(installed: Path, tmp_path: Path) -> None:
    package = tmp_path / "broken"
    package.mkdir()
    (package / "pyproject.toml").write_text(BROKEN)
    (package / "broken.py").write_text("def nothing(model):\n    return None\n")
    install(package, installed)
    with pytest.raises(InputError, match=r"'stamp' of onnxprune.stages: several packages offer"):
        then("stamp")
    with pytest.raises(InputError, match=r"plug-in 'fails' \(broken:missing\): AttributeError"):
        onnxprune.prune(NETWORKS["chain"](), {"macs": 0.8}, importance="fails")
    with pytest.raises(InputError, match=r"stage 'nothing' gave NoneType: return a ModelProto"):
        recipe = onnxprune.recipe({"stage": [{"kind": "nothing"}]})
        onnxprune.run(recipe, NETWORKS["chain"](), latency=False)
    with pytest.raises(InputError, match="unknown criterion 'none'"):
        onnxprune.prune(NETWORKS["chain"](), {"macs": 0.8}, importance="none")


def test_a_rule_of_a_plug_in_holds(installed: Path, tmp_path: Path) -> None:
    text = """m (float[1, 3] x) => (float[1, 2] y)
    <float[3, 4] a = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4, 2] c = {1,2,3,4,5,6,7,8}> {
        h = MatMul (x, a)
        s = com.acme.Swoosh (h)
        y = MatMul (s, c)
    }"""
    model = parsed(text)
    model.opset_import.add(domain="com.acme", version=1)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("s", 1, [1, 4]))
    onnx.save(model, tmp_path / "m.onnx")
    plain = CliRunner().invoke(main, ["inspect", str(tmp_path / "m.onnx")]).output
    ruled = CliRunner().invoke(main, ["inspect", str(tmp_path / "m.onnx"), "--rules", "acme"])
    assert "no rule for operator com.acme:Swoosh" in plain
    assert "1 groups" in ruled.output and "no rule" not in ruled.output
