"""The commands as a user types them: exit codes, messages, files."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS
from paths import ROOT

from onnxprune import cli, progress
from onnxprune.cli import COMMANDS, main

DIGITS, TEST = str(ROOT / "models" / "digits.onnx"), str(ROOT / "models" / "digits_test.npz")


def run(*words: object, code: int = 0):
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.onnx"


def test_prune_writes_model_plan_and_report(out: Path):
    plan, report = out.with_suffix(".plan"), out.with_suffix(".report")
    text = run("prune", DIGITS, out, "--target", "macs=0.7", "--data", TEST,
               "--plan", plan, "--report", report, "--no-compensate").output  # fmt: skip
    for word in ("MACs", "latency", "top-1", "99.60%", "proof", "drift", "onnxruntime"):
        assert word in text
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert json.loads(report.read_text())["achieved"]["macs"] <= 0.7
    again = out.with_name("again.onnx")
    run("apply", DIGITS, plan, again, "--no-latency", "-q")
    assert again.read_bytes() == out.read_bytes()


def test_report_to_standard_output_is_json_alone(out: Path):
    text = run("prune", DIGITS, out, "--target", "macs=50%", "--no-latency", "--report", "-").output
    assert json.loads(text)["proof"]["passed"]


def test_dry_run_writes_no_model(out: Path):
    plan = out.with_suffix(".plan")
    run("prune", DIGITS, out, "--target", "macs=0.7", "--no-latency", "--dry-run", "--plan", plan)
    assert plan.exists() and not out.exists()


def test_quiet(out: Path):
    assert run("prune", DIGITS, out, "--target", "params=0.7", "--no-latency", "-q").output == ""


def test_several_targets_and_options(out: Path):
    run("prune", DIGITS, out, "--target", "macs=0.8", "--target", "params=0.7,size=400KB",
        "--importance", "fpgm", "--scope", "layer", "--round-to", 4, "--min-channels", 4,
        "--exclude", "fc1", "--layer-ratio", "stage3.0=0.5", "--seed", 3, "--no-compensate",
        "--no-latency")  # fmt: skip
    assert out.stat().st_size <= 400_000


def test_inspect(out: Path):
    text = run("inspect", DIGITS).output
    assert "10 groups" in text and "fc2.weight[0] (10 of 10): 'logits' is an output" in text
    values = json.loads(run("inspect", DIGITS, "--json").output)
    assert values["groups"][0]["members"][0]["tensor"] == "stem.conv.weight"
    assert 0 < values["groups"][0]["macs_share"] < 1


def test_inspect_names_the_unknown_operator(tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(NETWORKS["operator_without_a_rule"](), path)
    text = run("inspect", path).output
    assert "no rule for operator com.microsoft:Trilu; blocked by n3" in text
    assert "register a rule with onnxprune.couples('com.microsoft:Trilu')" in text


def test_check_is_a_gate(out: Path):
    run("prune", DIGITS, out, "--target", "macs=0.7", "--no-latency", "-q")
    fine = run("check", DIGITS, DIGITS, "--max-drop", 0, "--data", TEST, "--no-latency").output
    assert "top-1" in fine
    text = run("check", DIGITS, out, "--max-drop", 0.01, "--data", TEST, "--no-latency", code=4)
    assert "gate failed: drop 0." in text.output
    run("check", DIGITS, out, "--max-latency-ratio", 1e-6, code=4)
    values = json.loads(run("check", DIGITS, out, "--json", "--no-latency").output)
    assert values["fidelity"]["agreement"] is not None


def test_unreachable_target(out: Path):
    text = run("prune", DIGITS, out, "--target", "macs=0.0001", "--no-latency", code=3).output
    assert text.startswith("Error: macs") and text.count("\n") == 1 and not out.exists()


BAD = [
    (["prune", "missing.onnx", "OUT", "--target", "macs=0.5"], "missing.onnx: no such file"),
    (["prune", "TEXT", "OUT", "--target", "macs=0.5"], "not an ONNX model, or truncated"),
    (["prune", "CUT", "OUT", "--target", "macs=0.5"], "not an ONNX model, or truncated"),
    (["prune", "EMPTY", "OUT", "--target", "macs=0.5"], "not an ONNX model"),
    (
        ["prune", "BROKEN", "OUT", "--target", "macs=0.5"],
        "which is no input, no weight and not made by any node",
    ),
    (["prune", "FOLDER", "OUT", "--target", "macs=0.5"], "is a folder"),
    (["prune", DIGITS, DIGITS, "--target", "macs=0.5"], "is the input itself"),
    (["prune", DIGITS, "no/such/out.onnx", "--target", "macs=0.5"], "does not exist"),
    (["prune", DIGITS, "FOLDER", "--target", "macs=0.5"], "is a folder"),
    (["prune", DIGITS, "OUT"], "nothing to do"),
    (["prune", DIGITS, "OUT", "--target", "macs"], "write METRIC=AMOUNT"),
    (["prune", DIGITS, "OUT", "--target", "macs=7%%"], "give a share"),
    (["prune", DIGITS, "OUT", "--target", "speed=2"], "unknown target 'speed'"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--importance", "l7"], "unknown criterion"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--scope", "all"], "unknown scope"),
    (
        ["prune", DIGITS, "OUT", "--target", "macs=0.5", "--exclude", "["],
        "not a regular expression",
    ),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--provider", "tpu"], "CPUExecutionProvider"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--round-to", "0"], "at least 1"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--data", "no.npz"], "no.npz: no such file"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--data", "SHAPE"], "has shape [4, 1, 9, 9]"),
    (
        ["prune", DIGITS, "OUT", "--target", "macs=0.5", "--data", "TYPE"],
        "is float64, but the model",
    ),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--data", "NAME"], "the model's input is"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--data", "LABELS"], "differ in length"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--input-shape", "im:1,1,8,8"], "no input"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--input-shape", "1,3,8,8"], "axis 1 is 1"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--target", "macs=0.6"], "given twice"),
    (["prune", DIGITS, "OUT", "--target", "macs=1MB"], "bytes are for size"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--exclude", "nothing"], "matches no node"),
    (["prune", DIGITS, "OUT", "--layer-ratio", "nothing=0.5"], "no pattern matches a group"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--plan", DIGITS], "is the input itself"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--report", "OUT"], "is OUTPUT already"),
    (["prune", DIGITS, "DATA", "--target", "macs=0.5", "--data", "DATA"], "is the input itself"),
    (["prune", DIGITS, "DATA", "--target", "macs=0.5", "--more", "DATA"], "is the input itself"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--more", "DATA"], "give calib too"),
    (["prune", DIGITS, "OUT", "--target", "macs=0.5", "--data", "ARRAY"], "is a single array"),
    (
        ["prune", DIGITS, "OUT", "--target", "macs=0.5", "--data", "HOT"],
        "class numbers as integers",
    ),
    (["apply", DIGITS, "TEXT", "OUT"], "not a plan file"),
    (["check", DIGITS, "OTHER"], "the models differ at"),
    (["check", DIGITS, DIGITS, "--no-latency", "--max-latency-ratio", "1"], "leaves out"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_input(words: list[str], message: str, tmp_path: Path):
    """One line that says what is wrong, exit code 2, and an existing output is untouched."""
    image = np.zeros((4, 1, 8, 8), np.float32)
    files = {key: tmp_path / f"{key.lower()}.bin" for key in ("TEXT", "CUT", "EMPTY", "BROKEN")}
    files |= {key: tmp_path / f"{key.lower()}.npz" for key in ("SHAPE", "TYPE", "NAME", "LABELS")}
    files |= {"OUT": tmp_path / "out.onnx", "FOLDER": tmp_path, "OTHER": tmp_path / "other.onnx"}
    files["TEXT"].write_text("this is no model")
    files["EMPTY"].write_bytes(b"")
    files["CUT"].write_bytes(Path(DIGITS).read_bytes()[:20_000])
    broken = onnx.load(DIGITS)
    broken.graph.node[3].input[0] = "nowhere"
    onnx.save(broken, files["BROKEN"])
    np.savez(files["SHAPE"], image=np.zeros((4, 1, 9, 9), np.float32))
    np.savez(files["TYPE"], image=image.astype(float))
    np.savez(files["NAME"], picture=image)
    np.savez(files["LABELS"], image=image, labels=np.zeros(3, np.int64))
    files |= {key: tmp_path / f"{key.lower()}.npz" for key in ("DATA", "HOT")}
    files["ARRAY"] = tmp_path / "array.npy"
    np.savez(files["DATA"], image=image)
    np.savez(files["HOT"], image=image, labels=np.eye(4))
    np.save(files["ARRAY"], image)
    onnx.save(NETWORKS["chain"](), files["OTHER"])
    files["OUT"].write_text("precious")
    words = [str(files.get(word, word)) for word in words]
    output = run(*words, code=2).output
    assert output.startswith("Error: ") and message in output and output.count("\n") == 1
    assert files["OUT"].read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_pipe_sees_no_progress_bar_and_no_colours(out: Path):
    """Nor does it wait for rich."""
    words = ["prune", DIGITS, str(out), "--target", "macs=0.7"]
    code = f"from onnxprune.cli import main; main({words!r}, standalone_mode=False)"
    code += "; import sys; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stderr == "" and "wrote" in done.stdout and "\x1b" not in done.stdout
    assert done.stdout.endswith("False\n")


def read_all(leader: int) -> Iterator[bytes]:
    """What was written to a terminal whose other end is closed; one read may give a part."""
    with suppress(OSError):  # Linux says so at the end
        while part := os.read(leader, 1000):
            yield part


def test_a_terminal_sees_one(monkeypatch: pytest.MonkeyPatch):
    leader, follower = pty.openpty()
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setenv("TERM", "xterm-256color")
    with os.fdopen(follower, "w") as terminal:
        bar = progress.Bar(terminal)
        bar("proving", 0.5)
        bar.close()
    shown = b"".join(read_all(leader)).decode()
    assert "proving" in shown and "━" * 15 in shown and " 50%" in shown


def test_version_and_help():
    from onnxprune import __version__

    assert __version__ in run("--version").output
    for command in ("prune", "apply", "inspect", "check"):
        assert "Usage" in run(command, "--help").output


def test_ops_lists_rules_and_reasons():
    lines = run("ops").output.splitlines()
    assert "Conv" in lines
    assert (
        "Bernoulli  frozen: random numbers are drawn in order: a smaller tensor draws others"
        in lines
    )


#: What takes longer to import than to print what a command does.
SLOW = {"numpy", "onnx", "onnxruntime", "rich"}


@pytest.mark.parametrize(
    "code",
    [
        "import onnxprune",
        "from onnxprune.cli import main; main(['--help'], standalone_mode=False)",
    ],
)
def test_help_and_the_bare_package_import_nothing_slow(code: str):
    code += "; import sys; print('|', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.rpartition("|")[2].split())
    assert "onnxprune" in loaded and not loaded & SLOW
    assert {name for name in loaded if name.startswith("onnxprune.")} <= {"onnxprune.cli"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_of_them_does(name: str):
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.name == name and command.help
    assert " ".join(command.help.split("\n\n")[0].split()) == COMMANDS[name].does


def test_an_interrupt_while_a_command_is_imported_ends_as_one_while_it_runs(monkeypatch):
    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", interrupted)
    found = CliRunner().invoke(main, ["inspect", "model.onnx"])
    assert (found.exit_code, found.output) == (130, "Error: interrupted\n")
