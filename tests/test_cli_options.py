"""Options of commands: what they become, and the files that they may write."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from paths import MODELS

from onnxprune import InputError, cli_options
from onnxprune.cli import main
from onnxprune.ir.runtime import Device
from onnxprune.settings import Settings
from onnxprune.sparsity.options import Sparsity

DIGITS = str(MODELS / "digits.onnx")


def parsed(command: str, *words: str) -> dict[str, Any]:
    """The options of a command as it sees them."""
    found = main.get_command(click.Context(main), command)
    assert found is not None
    return found.make_context(command, [DIGITS, *words]).params


@pytest.mark.parametrize("command", ["prune", "apply", "sparsify", "sensitivity", "check", "bench"])
def test_defaults_of_options_are_those_of_the_settings(command: str):
    words = {"apply": ["plan", "out"], "sensitivity": [], "bench": []}.get(command, ["out"])
    found = cli_options.settings(DIGITS, parsed(command, *words))
    assert len(found) > 3
    for name, value in found.items():
        default = getattr(Settings(), name)
        if name == "device":
            assert (value.resolve(), value.threads) == (default.resolve(), default.threads)
        elif (command, name) == ("sparsify", "scope"):  # that of single weights
            assert value == Sparsity().scope
        else:
            assert (value or None) == (default or None), name


def test_options_become_settings():
    words = ["out", "--no-latency", "--no-compensate", "--distill-rounds", "3", "--round-to", "8",
             "--layer-ratio", "a=0.5", "--threads", "2", "--input-shape", "image:4,1,8,8",
             "--lossless", "--exclude", "x", "--max-drop", "0.1"]  # fmt: skip
    found = cli_options.settings(DIGITS, parsed("prune", *words))
    expected = {
        "latency": False, "compensate": False, "distill": 3, "round_to": 8, "steps": 1,
        "layer_ratio": {"a": 0.5}, "device": Device("cpu", 2), "lossless": True, "max_drop": 0.1,
        "input_shapes": {"image": (4, 1, 8, 8)}, "exclude": ("x",), "importance": "auto",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


REFUSED = [
    (["--batch", "0"], "--batch must be at least 1 and --threads at least 0"),
    (["--threads", "-1"], "--batch must be at least 1 and --threads at least 0"),
    (["--no-distill", "--distill-rounds", "2"], "give --no-distill or --distill-rounds, not both"),
    (["--provider", "tpu"], "provider 'tpu' is not in this onnxruntime"),
    (["--layer-ratio", "a"], "a"),
    (["--custom-ops", "no.so"], "no.so: not a library of custom operators"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_refusals(words: list[str], message: str):
    with pytest.raises(InputError) as caught:
        cli_options.settings(DIGITS, parsed("prune", "out", *words))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_text_is_written_whole_or_said_not_to_be(tmp_path: Path):
    path = tmp_path / "report.json"
    cli_options.write_text(str(path), "é")
    assert path.read_bytes() == "é".encode()
    with pytest.raises(InputError, match=r"no/report.json: cannot be written: No such file"):
        cli_options.write_text(str(tmp_path / "no" / "report.json"), "")
    (tmp_path / "link").symlink_to(path)
    cli_options.write_text(str(tmp_path / "link"), "new")
    assert path.read_text() == "new" and (tmp_path / "link").is_symlink()
    cli_options.write_text(os.devnull, "gone")
    assert not Path(os.devnull).is_file()


def test_files_that_are_taken_are_refused(tmp_path: Path):
    taken = {(tmp_path / "in").resolve(): "the input itself"}
    with pytest.raises(InputError, match=r"in: is the input itself. Choose another file"):
        cli_options.free([(str(tmp_path / "in"), "OUTPUT")], dict(taken))
    pair = [(str(tmp_path / "a"), "OUTPUT"), (str(tmp_path / "a"), "--plan")]
    with pytest.raises(InputError, match="a: is OUTPUT already"):
        cli_options.free(pair, dict(taken))
    with pytest.raises(InputError, match=r"is a folder. Name the file to write"):
        cli_options.free([(str(tmp_path), "OUTPUT")], dict(taken))
    found = cli_options.free([(str(tmp_path / "a"), "OUTPUT")], dict(taken))
    assert found[(tmp_path / "a").resolve()] == "OUTPUT already"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("no"), 2, "Error: no"),
        (MemoryError(), 2, "Error: out of memory; .* --calib-samples"),
        (OSError(12, "Cannot allocate memory"), 2, "Error: out of memory"),
        (RuntimeError("can't start new thread"), 2, "Error: out of memory"),
        (OSError(28, "No space left on device", "a/b"), 2, "Error: a/b: No space left on device"),
        (OSError(28, "No space left on device"), 2, "Error: No space left on device"),
        (KeyboardInterrupt(), 130, "Error: interrupted"),
    ],
)
def test_errors_are_one_line_and_a_code(error: BaseException, code: int, text: str, capsys):
    @cli_options.errors
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        command()
    shown = capsys.readouterr()
    assert ended.value.code == code and shown.out == ""
    assert re.fullmatch(f"{text}.*\n", shown.err)


@pytest.mark.parametrize("error", [RuntimeError("a defect"), KeyError("x"), OSError("a defect")])
def test_defects_stay_visible(error: Exception):
    @cli_options.errors
    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        command()


def test_a_process_that_is_told_to_end_cleans_up(capsys):
    """And the handler that was there comes back."""
    before, closed = signal.getsignal(signal.SIGTERM), []

    @cli_options.errors
    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            closed.append(True)

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 143 and closed == [True]
    assert capsys.readouterr().err == "Error: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_message_is_one_line_whatever_names_hold(capsys: pytest.CaptureFixture[str]):
    @cli_options.errors
    def fails() -> None:
        raise InputError(f"tensor 'a\nb\0c' and '{'n' * 5000}' are bad")

    with pytest.raises(SystemExit) as stop:
        fails()
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and "'a b\\x00c'" in text and "…" in text and len(text) < 400


def test_numpy_does_not_warn_users():
    @cli_options.errors
    def divides() -> None:
        assert np.isnan(np.zeros(1) / np.zeros(1)).all()

    divides()
