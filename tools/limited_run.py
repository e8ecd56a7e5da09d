"""Run one step of a tool in a process of its own, with limits on time and memory."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["limited_run", "out_of_time"]

HERE = Path(__file__).resolve().parent
#: Bytes of address space that a step may ask for.
MEMORY = 16 << 30


def limited_run(script: str, arguments: Sequence[str], seconds: int) -> dict[str, Any]:
    """What a script beside this file prints as its last line, or {"failed": why}.

    Args:
        script: its file name.
        arguments: of the script.
        seconds: that it may take.
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    command = [sys.executable, str(HERE / script), *arguments]
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment,
            timeout=seconds, preexec_fn=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": out_of_time(seconds)}
    if done.returncode == 0:
        values: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return values
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return {"failed": _reason(lines), "log": lines[-40:]}


def out_of_time(seconds: int) -> str:
    """What `failed` says of a script that was stopped."""
    return f"no result after {seconds} s"


def _reason(lines: list[str]) -> str:
    """The line of a traceback that names the exception."""
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Fail|Interrupt)\b", line)]
    return (named or lines)[-1][:400]
