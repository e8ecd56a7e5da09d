"""The GitHub action and the pre-commit hook run `check` with options that it has."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from paths import MODELS, ROOT

from onnxprune.cli import main

DIGITS = str(MODELS / "digits.onnx")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """As the action sets it, with an `onnxprune` that is this checkout."""
    command = tmp_path / "onnxprune"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onnxprune "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ORIGINAL": DIGITS,
        "PRUNED": DIGITS,
        "REPORT": str(tmp_path / "a report.json"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }


def check(env: dict[str, str]) -> int:
    return subprocess.run(["sh", str(ROOT / "tools/check_action")], env=env).returncode


def test_the_action_checks_two_models(env: dict[str, str]) -> None:
    env |= {"DATA": str(MODELS / "digits_test.npz"), "MAX_DROP": "0", "ARGS": "--seed 3"}
    assert check(env) == 0
    assert json.loads(Path(env["REPORT"]).read_text())["drop"] == 0
    assert Path(env["GITHUB_OUTPUT"]).read_text() == f"report={env['REPORT']}\n"


def test_a_gate_that_fails_fails_the_job(env: dict[str, str]) -> None:
    assert check(env | {"MAX_DROP": "-1"}) == 4


def test_values_are_no_code(env: dict[str, str], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert check(env | {"DATA": f"$(touch {mark})", "ARGS": f"`touch {mark}` $(touch {mark})"}) == 2
    assert not mark.exists()


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
