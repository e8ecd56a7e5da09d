"""Run the test command with several versions of Python, onnx, onnxruntime and numpy.

Every row is a fresh environment, made by an interpreter that is found on the path, or that pyenv
or uv keeps. A row whose interpreter or packages are not to be had says so, and is no failure.

    python tools/matrix.py                                     all rows, the whole suite
    python tools/matrix.py --rows oldest --tests tests/ops     some rows, some tests
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
TESTS = ("pytest>=8", "pytest-xdist>=3.6", "hypothesis", "matplotlib>=3.7")
PACKAGES = ("onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Row:
    """An environment: the minor version of Python 3, and versions of packages, else the newest."""

    name: str
    python: int
    pins: tuple[str, ...] = ()


def promised() -> dict[str, str]:
    """The oldest version of every package that pyproject.toml promises."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return dict(re.findall(r'"(onnx|onnxruntime|numpy)>=([\d.]+)"', text))


def rows() -> list[Row]:
    """The oldest of everything, the newest on every Python, and old ones of single packages."""
    old = promised()
    oldest = tuple(f"{name}=={version}.0" for name, version in old.items())
    return [
        Row("oldest", 11, oldest),
        Row("oldest onnx", 12, (f"onnx=={old['onnx']}.0",)),
        Row("oldest onnxruntime", 13, (f"onnxruntime=={old['onnxruntime']}.0",)),
        Row("numpy 1.26", 12, ("numpy==1.26.4",)),
        *(Row(f"newest on 3.{minor}", minor) for minor in (11, 12, 13)),
    ]


def interpreter(minor: int) -> str | None:
    """Find Python 3.`minor`: this one, one on the path, pyenv's or uv's."""
    if sys.version_info[:2] == (3, minor):
        return sys.executable
    found = [shutil.which(f"python3.{minor}")]
    for folder in (".pyenv/versions", ".local/share/uv/python"):
        kept = Path.home() / folder
        found += [str(path) for path in sorted(kept.glob(f"*3.{minor}.*/bin/python3.{minor}"))]
    return next((path for path in found if path and _runs(path)), None)


def _runs(python: str) -> bool:
    """Whether an interpreter starts and can make environments."""
    done = subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True)
    return done.returncode == 0


def environment(row: Row, folder: Path) -> Path | str:
    """Make the environment of a row: its interpreter, or why there is none."""
    python = interpreter(row.python)
    if python is None:
        return f"no Python 3.{row.python} here"
    made = folder / row.name.replace(" ", "-")
    inside = made / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", str(made)], check=True)
    command = [str(inside), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    install = [*command, "-e", str(ROOT), *TESTS, *row.pins]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        why = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return "; ".join(why)[:200] or "pip fails"
    return inside


def versions(python: Path) -> str:
    """What is installed: Python, then the packages of the table."""
    code = (
        "import sys\nfrom importlib.metadata import version\n"
        f"print('%d.%d.%d' % sys.version_info[:3], *map(version, {PACKAGES!r}))"
    )
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True).stdout.strip()


def tested(python: Path, tests: Sequence[str], workers: str) -> tuple[str, list[str]]:
    """Run the tests: the last line of pytest, and which failed."""
    command = [str(python), "-m", "pytest", "-n", workers, "--dist", "worksteal", "-rfE", *tests]
    keep = ("PATH", "HOME", "TMPDIR", "LANG")
    env = {name: os.environ[name] for name in keep if name in os.environ} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    failed = [line[:220] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (lines[-1].strip("= ") if lines else "nothing ran"), failed


def main() -> int:
    """Print the table; 1 if a row that ran has a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="rows whose names match this expression")
    parser.add_argument("--pin", nargs="*", default=[], help="versions in place of the row's own")
    parser.add_argument("--tests", nargs="*", default=[], help="tests in place of all")
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--keep", help="folder that keeps the environments")
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        print("| row | Python, " + ", ".join(PACKAGES) + " | result | seconds |")
        print("| --- " * 4 + "|", flush=True)
        for row in (r for r in rows() if re.search(given.rows, r.name)):
            pinned = Row("-".join((row.name, *given.pin)), row.python, tuple(given.pin) or row.pins)
            begin = perf_counter()
            python = environment(pinned, Path(given.keep or scratch))
            if isinstance(python, str):
                print(f"| {row.name} | 3.{row.python} | skipped: {python} | - |", flush=True)
                continue
            result, failed = tested(python, given.tests, given.workers)
            bad += bool(failed) or " passed" not in result
            spent = perf_counter() - begin
            print(f"| {row.name} | {versions(python)} | {result} | {spent:.0f} |", flush=True)
            for line in failed:
                print(line, file=sys.stderr, flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
