"""Mutated files in every kind, a few of each, and what judges them with something wrong."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from networks import NETWORKS
from paths import TOOLS

sys.path.insert(0, str(TOOLS))

import fuzz_cases
import fuzz_files
import fuzz_output
import fuzz_process
import fuzz_refusals
from fuzz_graphs import GRAPHS
from fuzz_values import VALUES

import onnxprune


def test_no_mutated_file_brings_a_command_down() -> None:
    """One case of each kind, each in a process of its own."""
    command = [sys.executable, str(TOOLS / "fuzz.py"), "--few", "--seed", "short", "--files", "47"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = dict(re.findall(r"^(done|refused) +(\d+)$", ended.stdout, re.M))
    assert len(fuzz_cases.KINDS) == 47
    assert int(counts["done"]) > 5 and int(counts["refused"]) > 20


def test_a_case_is_the_same_each_time() -> None:
    data = NETWORKS["chain"]().SerializeToString()
    for kind, change in fuzz_files.BYTES.items():
        assert change(data, Random(3)) == change(data, Random(3)), kind
    for kind in (*GRAPHS, *VALUES):
        made = [fuzz_cases.mutated(data, [kind], Random(5)) for _ in range(2)]
        assert made[0] == made[1], kind


@pytest.mark.parametrize("kind", [*GRAPHS, *VALUES])
def test_each_kind_changes_a_model(kind: str) -> None:
    names = ("spatial_reshape", "branches_with_weights")
    models = [NETWORKS[name]().SerializeToString() for name in names]
    rng = Random(1)
    assert any(fuzz_cases.mutated(m, [kind], rng) != m for _ in range(20) for m in models)


def ended(folder: Path, result: dict[str, object]) -> tuple[str, str]:
    """What the judge says of a command that left this."""
    for name in ("log", "temporary"):
        (folder / name).mkdir(exist_ok=True)
    whole = {"code": 0, "error": "", "args": [], "before": [], "detail": "", "unusable": ""}
    return fuzz_process.answer(folder, {**whole, **result})


def test_the_judge_sees_each_fault(tmp_path: Path) -> None:
    assert ended(tmp_path, {}) == ("done", "")
    trace = 'Traceback\n  File "onnxprune/ir/graph.py", line 3, in read\nKeyError: 99'
    assert ended(tmp_path, {"code": 1, "error": trace})[0] == "internal error"
    assert ended(tmp_path, {"code": 1, "error": "Error: proof failed"})[0] == "internal error"
    assert ended(tmp_path, {"unusable": "does not run"})[0] == "unusable output"
    assert ended(tmp_path, {"code": 2, "error": "Error: model.onnx: bad"})[0] == "refusal"
    (tmp_path / "out.onnx").write_bytes(b"")
    assert ended(tmp_path, {}) == ("done", "")
    assert ended(tmp_path, {"code": 2, "error": "Error: Export it again."})[0] == "litter"
    (tmp_path / ".out.onnx.1234abcd").write_bytes(b"")
    assert ended(tmp_path, {})[0] == "litter"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Error: tensor 'w' is short. Export the model again.", ""),
        ("Error: tensor 'alive/w/0' is short. Export the model again.", "internal"),
        ("Error: tensor 'v' is short. Export the model again.", "unknown name 'v'"),
        ("Error: tensor 'w' is short.", "no action"),
        ("Error: tensor 'w' is short.\nExport the model again.", "not one line"),
        ("tensor 'w' is short. Export the model again.", "not one line"),
        ("Error: graph.cc:12 is short. Export the model again.", "internal"),
    ],
)
def test_refusals_are_judged(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x0aw")
    found = fuzz_refusals.faulty_refusal(text, tmp_path, [])
    assert found.startswith(fault) and bool(found) == bool(fault)


#: Values that bring what to do along, at the end of a message.
ADVICE = re.compile(
    r"\{(error|known|has|text|_AGAIN|_FORMS|_(cycle|nearest|unknown)\(.*\))\}\.?'?$"
)


def test_every_refusal_says_what_to_do() -> None:
    silent, count = [], 0
    for path in Path(onnxprune.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            if ast.unparse(node.exc.func) != "InputError":
                continue
            message, count = node.exc.args[0], count + 1
            parts = (part.value for part in ast.walk(message) if isinstance(part, ast.Constant))
            words = "".join(map(str, parts))
            composed = ADVICE.search(ast.unparse(message).strip("\"'f"))
            if isinstance(message, ast.JoinedStr | ast.Constant) and not composed:
                silent += [] if fuzz_refusals.ACTIONS.search(words) else [f"{path.name}: {words}"]
    assert count > 150 and not silent, silent


def test_outputs_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["prune", "model.onnx", "out.onnx", "--lossless"]
    assert fuzz_output.unusable(args) == "no output" and not fuzz_output.torn()
    model = NETWORKS["chain"]()
    for name in ("model.onnx", "out.onnx"):
        Path(name).write_bytes(model.SerializeToString())
    assert fuzz_output.unusable(args) == "" and fuzz_output.torn()
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    Path("out.onnx").write_bytes(model.SerializeToString())
    assert fuzz_output.unusable(args).startswith("lossless, but off by")
    Path("out.onnx").write_bytes(model.SerializeToString()[:-9])
    assert fuzz_output.unusable(args).startswith("does not load")
