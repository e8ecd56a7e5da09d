"""The GitHub action and the pre-commit hook run `check` with options that it has."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from paths import ROOT

from onnxprune.cli import main

#: Stands for `onnxprune`: it notes its arguments, one a line, and ends as it is told.
COMMAND = """#!/bin/sh
printf '%s\\n' "$@" > "$NOTED"
echo '{"drop": 0}'
exit "${ENDS:-0}"
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """As the action sets it."""
    command = tmp_path / "onnxprune"
    command.write_text(COMMAND)
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NOTED": str(tmp_path / "noted"),
        "ORIGINAL": "a b.onnx",
        "PRUNED": "c.onnx",
        "REPORT": str(tmp_path / "a report.json"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }


def check(env: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """How the script ends, and what `onnxprune check` makes of the arguments."""
    done = subprocess.run(["sh", str(ROOT / "tools/check_action")], env=env, capture_output=True)
    name, *words = Path(env["NOTED"]).read_text().splitlines()
    command = main.get_command(click.Context(main), name)
    assert name == "check" and command is not None
    return done.returncode, command.make_context(name, words).params


def test_the_action_checks_two_models(env: dict[str, str]) -> None:
    limits = {"DATA": "my test.npz", "MAX_DROP": "0.01", "ARGS": "--seed 3 --batch 2"}
    code, given = check(env | limits)
    assert code == 0 and (given["original"], given["pruned"]) == ("a b.onnx", "c.onnx")
    assert (given["data"], given["limit"]) == ("my test.npz", 0.01)
    assert (given["seed"], given["batch"]) == (3, 2)
    assert given["no_latency"] and given["as_json"]
    assert json.loads(Path(env["REPORT"]).read_text())["drop"] == 0
    assert Path(env["GITHUB_OUTPUT"]).read_text() == f"report={env['REPORT']}\n"


def test_time_is_measured_where_it_is_limited(env: dict[str, str]) -> None:
    _, given = check(env | {"MAX_LATENCY_RATIO": "0.8"})
    assert given["max_latency_ratio"] == 0.8 and not given["no_latency"]


def test_a_gate_that_fails_fails_the_job(env: dict[str, str]) -> None:
    assert check(env | {"ENDS": "4"})[0] == 4
    assert Path(env["REPORT"]).exists()


def test_values_are_no_code(env: dict[str, str], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile = {"DATA": f"$(touch {mark})", "ARGS": f"--input-shape $(touch${{IFS}}{mark})"}
    _, given = check(env | hostile)
    assert given["data"] == hostile["DATA"]
    assert given["input_shapes"] == (f"$(touch${{IFS}}{mark})",) and not mark.exists()


def test_every_input_of_the_action_reaches_the_script() -> None:
    text = (ROOT / "action.yml").read_text()
    inputs = re.findall(r"^  ([\w-]+):\n    description", text.split("outputs:")[0], re.MULTILINE)
    script = (ROOT / "tools/check_action").read_text()
    for name in inputs:
        variable = name.upper().replace("-", "_")
        assert f"{variable}: ${{{{ inputs.{name} }}}}" in text and f"${variable}" in script.replace(
            "{", ""
        )


def test_the_hook_names_a_command_and_options_that_exist() -> None:
    hook = (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert re.search(r"^  entry: onnxprune check$", hook, re.MULTILINE)
    command = main.get_command(click.Context(main), "check")
    assert command is not None
    (args,) = re.findall(r"args: \[(.*)\]", (ROOT / "docs/ci.md").read_text())
    words = [word.strip(' "') for word in args.split(",")]
    assert command.make_context("check", words).params["limit"] == 0.01
