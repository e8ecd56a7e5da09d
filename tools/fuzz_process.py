"""Run one case in a process of its own, with little memory and a clock, and judge what it did."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from fuzz_cases import MODEL, OUTPUT
from fuzz_refusals import faulty_refusal

__all__ = ["BAD", "Verdict", "answer", "limited", "run_command", "verdict"]

#: What may not be.
BAD = ("internal error", "crash", "hang", "memory", "unusable output", "litter", "refusal")
SECONDS, MEMORY, ADDRESSES = 60, 2 * 2**30, 8 * 2**30
#: The exit code of a child where this tool fails, not what it tests.
BROKEN = 99
#: Files that commands write beside those of the case.
_WRITTEN = {OUTPUT, f"{OUTPUT}.data", "made.json", "report.json", "table.json", "cache.json",
            "cache.json.steps"}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What came of a case: `done`, `refused` or one of `BAD`, where, and what it took."""

    what: str
    place: str
    seconds: float
    megabytes: int


def run_command(args: list[str]) -> int:
    """The exit code that the command line has for these arguments; its errors go to stderr."""
    from onnxprune.cli import main

    try:
        main(args, prog_name="onnxprune")
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def limited(folder: Path, work: Callable[[], Mapping[str, Any]]) -> tuple[int, float, int]:
    """Run `work` in a child whose working folder is `folder`; what it returns goes to its log.

    Returns:
        The status as `os.wait` gives it, or the negative of it where the clock ran out; seconds;
        and the most memory that the child held, in MB.
    """
    start, child = monotonic(), os.fork()
    if not child:
        try:
            _confine(folder)
            found = work()
            (folder / "log/result.json").write_text(json.dumps(found))
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(BROKEN)
    pause, late = 0.001, False
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return -1 if late else status, monotonic() - start, used.ru_maxrss // 1024
        if monotonic() - start > SECONDS and not late:
            os.kill(child, signal.SIGKILL)
            late = True
        sleep(pause)
        pause = min(pause * 1.5, 0.02)


def _confine(folder: Path) -> None:
    """Limit memory, and send output and temporary files to the folder."""
    for name in ("log", "temporary", "home"):
        (folder / name).mkdir()
    os.environ.update(TMPDIR=str(folder / "temporary"), XDG_CACHE_HOME=str(folder / "home"))
    tempfile.tempdir = str(folder / "temporary")
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(folder / f"log/{name}", os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    faulthandler.enable(sys.stderr)
    faulthandler.dump_traceback_later(SECONDS - 2, file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder)


def verdict(folder: Path, status: int, seconds: float, megabytes: int) -> Verdict:
    """Judge what a case left behind."""

    def found(what: str, place: str) -> Verdict:
        return Verdict(what, place, seconds, megabytes)

    error = (folder / "log/err").read_text(errors="replace")
    if status < 0:
        return found("hang", _frame(error) or "no frame")
    if os.WIFSIGNALED(status):
        return found("crash", f"{signal.Signals(os.WTERMSIG(status)).name} {_frame(error)}")
    if os.WEXITSTATUS(status) == BROKEN:
        return found("internal error", f"the tool itself: {_frame(error)}")
    result = json.loads((folder / "log/result.json").read_text())
    what, place = answer(folder, result)
    if what not in BAD and megabytes * 2**20 > MEMORY:
        what, place = "memory", result["detail"]
    return found(what, place)


def answer(folder: Path, result: Mapping[str, Any]) -> tuple[str, str]:
    """Judge the answer of a command that came to an end by itself."""
    code, error = result["code"], result["error"]
    unproved = code == 1 and error.startswith("Error: no proof possible")
    if "Traceback" in error or (code not in (0, 2, 3, 4) and not unproved):
        return "internal error", _frame(error) or error[-200:]
    if result["unusable"]:
        return "unusable output", result["unusable"]
    if litter := _litter(folder, result):
        return "litter", litter
    if code in (0, 4):
        return "done", ""
    fault = faulty_refusal(error, folder, result["args"])
    return ("refusal", fault) if fault else ("refused", "")


def _frame(text: str) -> str:
    """The innermost line of ours in a traceback, and the error."""
    frames = re.findall(r'File "([^"]*)", line (\d+),? in (\w+)', text)
    own = [f"{Path(f).parent.name}/{Path(f).name}:{n} {name}" for f, n, name in frames
           if "onnxprune/" in f or "/tools/" in f]  # fmt: skip
    last = text.strip().splitlines()[-1][:160] if text.strip() else ""
    if fatal := re.search(r"Fatal Python error: .*|Timeout \(.*", text):
        own, last = own[:1][::-1], fatal[0]  # the innermost frame comes first
    return f"{own[-1] if own else '?'} — {last}" if frames else ""


def _litter(folder: Path, result: Mapping[str, Any]) -> str:
    """Files that should not be there."""
    names = {p.name for p in folder.iterdir()} - {"log", "temporary", "home", *result["before"]}
    allowed = _WRITTEN if result["code"] in (0, 4) else {"cache.json", "cache.json.steps"}
    left = sorted(names - allowed)
    # onnxruntime keeps a file of its own there from the moment it is imported
    inside = [p.name for p in (folder / "temporary").iterdir() if p.name != ".ses"]
    if left or inside:
        return re.sub(r"[0-9a-z_]{8}", "*", f"{left} {inside}")
    return ""


def smallest(folder: Path) -> int:
    """Bytes of the model of a case, for choosing which to keep."""
    path = folder / MODEL
    return path.stat().st_size if path.is_file() else 0
