"""Commands that write everything there is to write, and processes that run them under a fault.

A run is a fork of this process, which has imported everything: it takes a fraction of a second, and
every process begins alike.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))

from networks import NETWORKS

from onnxprune.cli import COMMANDS, main

# Commands are imported before any fork, and what they import with them: onnxruntime writes files
# of its own into the temporary folder when it is imported.
for _module in {command.module for command in COMMANDS.values()}:
    importlib.import_module(f"onnxprune.{_module}")

DIGITS = Path(__file__).resolve().parents[1] / "models/digits.onnx"
#: A few samples go through all that many go through.
CALIB = ("--calib", "random", "--calib-samples", "8")
RECIPE = """
calib = "random"
calib_samples = 8

[[stage]]
kind = "prune"
target = { macs = TARGET }
distill = false

[[stage]]
kind = "quantise"
mode = "static"
"""
#: Seconds that a run may take before it counts as hanging.
PATIENCE = 60
#: What the audit hook of Python calls before something is made, renamed or linked.
EVENTS = ("open", "os.rename", "os.link", "os.mkdir")
#: The hook that a forked process wants, as hooks cannot be removed.
_hook: Callable[[str, tuple[Any, ...]], None] | None = None


def _hooked(event: str, args: tuple[Any, ...]) -> None:
    if _hook is not None and event in EVENTS:
        _hook(event, args)


sys.addaudithook(_hooked)


@dataclass(frozen=True)
class Command:
    """Words of the command line; OUT, TMP and TARGET stand for what differs from run to run."""

    name: str
    words: tuple[str, ...]

    def at(self, folder: Path, target: float) -> list[str]:
        """The words for a folder and a target."""
        return [
            word.replace("OUT", f"{folder}/out")
            .replace("IN", f"{folder}/in")
            .replace("TARGET", str(target))
            for word in self.words
        ]


WRITES = ("OUT/o.onnx", "--report", "OUT/r.json", "--no-latency", "-q")
COMMANDS = [
    Command(
        "prune",
        ("prune", "IN/m.onnx", *WRITES, "--plan", "OUT/p.json", "--target", "macs=TARGET"),
    ),
    Command(
        "prune, external data",
        ("prune", "IN/e.onnx", *WRITES, "--target", "macs=TARGET", "--no-compensate"),
    ),
    Command(
        "prune, cache, steps",
        (
            *("prune", "IN/m.onnx", *WRITES, *CALIB, "--target", "macs=TARGET"),
            *("--no-distill", "--steps", "2", "--cache", "OUT/cache.json"),
        ),
    ),
    Command(
        "sparsify",
        ("sparsify", "IN/e.onnx", *WRITES, *CALIB, "--sparsity", "TARGET", "--no-distill"),
    ),
    Command("apply", ("apply", "IN/m.onnx", "IN/TARGET.json", *WRITES, "--external-data")),
    Command("run", ("run", "IN/TARGET.toml", "IN/m.onnx", *WRITES, "--finished", "OUT/done")),
]
_DIGITS = (str(DIGITS), *WRITES, "--calib", str(DIGITS.with_name("digits_calib.npz")))
#: Runs that need more memory than this process has to spare.
HUNGRY = [
    Command("prune", ("prune", *_DIGITS, "--target", "macs=TARGET", "--distill-rounds", "1")),
    Command("sparsify", ("sparsify", *_DIGITS, "--sparsity", "TARGET", "--no-distill")),
]
#: The target that outputs were made with before, and the one that is asked for.
OLD, NEW = 0.9, 0.7


def prepared(folder: Path) -> None:
    """Write what commands read: models, plans and recipes."""
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    (folder / "tmp").mkdir()
    model = NETWORKS["residual_spine"]()
    onnx.save(model, folder / "in/m.onnx")
    onnx.save(
        model, folder / "in/e.onnx", save_as_external_data=True, location="e.data",
        size_threshold=1024,
    )  # fmt: skip
    for target in (OLD, NEW):
        (folder / f"in/{target}.toml").write_text(RECIPE.replace("TARGET", str(target)))
        words = [
            "prune",
            str(folder / "in/m.onnx"),
            str(folder / "none.onnx"),
            "--dry-run",
            "--no-latency",
            "-q",
        ]
        words += ["--target", f"macs={target}", "--plan", str(folder / f"in/{target}.json")]
        ended = forked(folder, words)
        assert ended.code == 0, ended.text


@dataclass(frozen=True)
class Ended:
    """How a process ended: its code, negative for a signal, None if it hung; what it printed."""

    code: int | None
    text: str
    seconds: float
    events: int = 0

    def told(self) -> bool:
        """Whether it said in one line what is wrong, with exit code 2."""
        lines = self.text.strip().splitlines()
        return self.code == 2 and len(lines) == 1 and lines[0].startswith("Error: ")


def forked(
    folder: Path,
    words: list[str],
    before: Callable[[], None] = lambda: None,
    kill: tuple[float, int] | None = None,
) -> Ended:
    """Run a command in a process of its own.

    Args:
        folder: what it may write to; temporary files lie in `tmp`.
        words: the command line.
        before: called in the new process first.
        kill: seconds after which it gets a signal, and which.
    """
    start = monotonic()
    shown = folder / "shown"
    pid = os.fork()
    if pid == 0:
        _child(folder, words, shown, before)
    code = _waited(pid, start, kill)
    count = folder / "events"
    events = int(count.read_text()) if count.exists() else 0
    text = shown.read_text(errors="replace") if shown.exists() else ""  # killed before it began
    return Ended(code, text, monotonic() - start, events)


def _child(folder: Path, words: list[str], shown: Path, before: Callable[[], None]) -> None:
    code = 70
    try:
        out = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        import tempfile

        # what the first process removes in the end is not this one's
        atexit._clear()
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]
        weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        os.environ["XDG_CACHE_HOME"] = str(folder / "tmp")
        before()
        main(words, standalone_mode=True)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
        sys.stdout.flush()
    os._exit(code)


def _waited(pid: int, start: float, kill: tuple[float, int] | None) -> int | None:
    """The exit code of a process, after a signal if there is to be one."""
    moment, number = kill or (PATIENCE, signal.SIGKILL)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if monotonic() - start >= moment:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            if kill is None:
                os.waitpid(pid, 0)
                return None
            moment, number, kill = monotonic() - start + PATIENCE, signal.SIGKILL, None
        sleep(0.001)


def counting(folder: Path) -> None:
    """Count the writes of this process in the file `events`."""
    counted = [0]
    place = os.open(folder / "events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if writes(folder, event, args):
            counted[0] += 1
            os.pwrite(place, str(counted[0]).encode(), 0)

    _set(hook)


def at_event(folder: Path, number: int, act: Callable[[], None]) -> Callable[[], None]:
    """What makes a process `act` before its write of that number, counted from 0."""
    left = [number]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if writes(folder, event, args):
            left[0] -= 1
            if left[0] == -1:
                act()

    return lambda: _set(hook)


def _set(hook: Callable[[str, tuple[Any, ...]], None]) -> None:
    global _hook
    _hook = hook


def writes(folder: Path, event: str, args: tuple[Any, ...]) -> bool:
    """Whether an event makes or changes something in a folder."""
    if event == "open":
        path, _, flags = args
        if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
    else:
        path = args[0]
    return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(str(folder))


def outputs(folder: Path) -> Mapping[str, str]:
    """Digests of what a command is asked to write; of a model with its data, or why it is torn."""
    found = {}
    for path in sorted((folder / "out").glob("*")):
        if path.name == "o.onnx":
            found[path.name] = _model(path)
        elif path.name in ("r.json", "p.json"):
            found[path.name] = _text(path)
    return found


def _model(path: Path) -> str:
    try:
        model = onnx.load(path)
    except Exception as error:
        return f"torn: {error}"
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _text(path: Path) -> str:
    """Of a report only that it is whole, since it holds times."""
    try:
        json.loads(path.read_text())
    except ValueError as error:
        return f"torn: {error}"
    return "whole" if path.name == "r.json" else hashlib.sha256(path.read_bytes()).hexdigest()


def litter(folder: Path) -> list[str]:
    """Files that nobody asked for, in the outputs' folder and the temporary one."""
    own = {"o.onnx", "o.onnx.data", "r.json", "p.json", "cache.json", "cache.json.steps", "done"}
    found = [path.name for path in (folder / "out").iterdir() if path.name not in own]
    model = folder / "out/o.onnx"
    used = model.read_bytes() if model.is_file() else b""  # data under a second name, perhaps
    found = [name for name in found if name.encode() not in used]
    for name in ("cache.json.steps", "done"):
        if (folder / "out" / name).is_dir():
            files = list((folder / "out" / name).iterdir())
            keys = {path.stem for path in files if path.suffix == ".json"}
            found += [path.name for path in files if path.name.partition(".")[0] not in keys]
    return found + [path.name for path in (folder / "tmp").iterdir() if path.name != "onnxprune"]


def fresh(folder: Path, template: Path) -> Path:
    """A copy of a template in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    return folder
