"""Run every example that README.md and docs/ show, in a copy of this checkout.

    python tools/examples.py [WORD …]      # only examples that hold a word

In a document's order: a block of Python that begins with `# NAME.py` becomes that file, any other
is run; a block of TOML becomes the file that the next command names; a command of `onnxprune` is
run. Prints how each ended and how long it took; exits with 1 if one failed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in "guide python finetune stages extending html terminal ci".split()
    ),
)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of every fenced block."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `onnxprune` command in the blocks without a language."""
    for language, block in blocks(text):
        lines = block.replace("\\\n", " ").splitlines() if not language else []
        shown = (line for line in lines if line.startswith("onnxprune "))
        yield from (shlex.split(line, comments=True)[1:] for line in shown)


def examples(text: str) -> Iterator[tuple[str, list[str]]]:
    """What to call an example, and the arguments that Python runs it with."""
    for language, block in blocks(text):
        if language == "python" and not block.startswith("# "):
            yield block.strip().splitlines()[-1], ["-c", block]
        for words in commands(f"```\n{block}```\n") if not language else ():
            yield shlex.join(words), ["-m", "onnxprune", *words]


def files(text: str, folder: Path) -> None:
    """Write the files that the examples of a document read."""
    for language, block in blocks(text):
        name = re.match(r"# (\w+\.py)\n", block) if language == "python" else None
        if name:
            (folder / name[1]).write_text(block, encoding="utf-8")
        if language == "toml" and "[[stage]]" in block:
            (folder / "models/recipe.toml").write_text(block, encoding="utf-8")


def main(words: list[str]) -> int:
    """1 if an example failed."""
    failed = 0
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as name:
            shutil.copytree(ROOT / "models", Path(name) / "models")
            files(text, Path(name))
            for what, how in examples(text):
                if words and not any(word in what for word in words):
                    continue
                begin = perf_counter()
                command = [sys.executable, *how]
                done = subprocess.run(command, cwd=name, env=env, capture_output=True, text=True)
                failed += done.returncode != 0
                print(f"{done.returncode} {perf_counter() - begin:6.1f} s  {what}", flush=True)
                if done.returncode:
                    print(done.stderr.strip(), flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
