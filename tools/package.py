"""Build the package, check it, install it in an empty environment and use it there.

    python tools/package.py [FOLDER]      # keeps wheel and sdist in FOLDER

Needs `pip install build twine mypy pyright`, and for the conda recipe `py-rattler-build`. Checks
what PyPI shows, that commands and Python find everything they need, that type checkers honour the
types, that what is installed is small, and that the recipe can be read.
Prints how each step ended; exits with 1 if one failed.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Bytes that the wheel may have.
LIMIT = 1_000_000
SPREAD = ("--importance", "spread", "--no-compensate")
#: Options of pip: in place of what is there, built from the file itself.
ANEW = ("--force-reinstall", "--no-deps", "--no-binary", "onnxprune")
#: Reads the recipe and fills in what it leaves to variables; needs no network.
RENDER = "import rattler_build, sys; rattler_build.Stage0Recipe.from_file(sys.argv[1]).render()"
#: A program whose one error type checkers find only where the package's types are honoured.
TYPED = """import onnxprune

result = onnxprune.prune("model.onnx", {"macs": 0.5}, latency=False)
ratio: float = result.report.achieved["macs"]
different: bool = onnxprune.diff("a.onnx", "b.onnx").equal
wrong: str = result.pruned.bytes
"""


def run(what: str, *words: str | Path, cwd: Path = ROOT, ends: int = 0, says: str = "") -> bool:
    """Run a command and print how it ended; whether that was with the code `ends`."""
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True)
    output = done.stdout + done.stderr
    good = done.returncode == ends and says in output
    print(f"{'ok' if good else 'FAILED':8}{what}", flush=True)
    if not good:
        print(output.strip(), flush=True)
    return good


def checked(made: Path, folder: Path) -> bool:
    """Whether all steps end well for the files in `made`; `folder` takes the environment."""
    built = run("build", sys.executable, "-m", "build", "--outdir", made, ROOT)
    files = sorted(made.glob("onnxprune-*"))
    good = [built, run("twine check", sys.executable, "-m", "twine", "check", "--strict", *files)]
    (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
    size = wheel.stat().st_size
    print(f"{'ok' if size <= LIMIT else 'FAILED':8}the wheel has {size / 1e3:.0f} kB")
    venv.create(folder / "empty", with_pip=True)
    python = folder / "empty/bin/python"
    good += [size <= LIMIT, run("install", python, "-m", "pip", "install", "-q", wheel)]
    digits, small = ROOT / "models/digits.onnx", folder / "small.onnx"
    shutil.copytree(ROOT / "examples/plugin", folder / "plugin")  # pip builds where it lies
    prune = ("prune", digits, small, "--target", "macs=0.8", "--no-latency")
    good += [
        run("the command", folder / "empty/bin/onnxprune", "inspect", digits, cwd=folder),
        run("the module", python, "-m", "onnxprune", *prune, cwd=folder),
        run("a plug-in", python, "-m", "pip", "install", "-q", folder / "plugin"),
        run("its criterion", python, "-m", "onnxprune", *prune, *SPREAD, cwd=folder),
        run("no conflicts", python, "-m", "pip", "check"),
        run("the sdist", python, "-m", "pip", "install", "-q", *ANEW, sdist),
        run("the command", folder / "empty/bin/onnxprune", "--version", cwd=folder),
    ]
    (folder / "typed.py").write_text(TYPED, encoding="utf-8")
    for checker, words in {
        "mypy": ("--strict", "--python-executable", python),
        "pyright": ("--pythonpath", python),
    }.items():
        command = (sys.executable, "-m", checker, *words, "typed.py")
        good.append(run(checker, *command, cwd=folder, ends=1, says="typed.py:6"))
    if importlib.util.find_spec("rattler_build") is None:
        print(f"{'-':8}the conda recipe: rattler_build is not installed")
    else:
        recipe = ROOT / "conda/recipe.yaml"
        good.append(run("the conda recipe", sys.executable, "-c", RENDER, recipe))
    return all(good)


def main(words: list[str]) -> int:
    """1 if a step failed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = Path(words[0]) if words else folder / "dist"
        return int(not checked(made.resolve(), folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
