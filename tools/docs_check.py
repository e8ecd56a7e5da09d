"""Run every command and program that the documents and examples show; compare what they print.

    python tools/docs_check.py [WORD …]     # only documents, commands and examples that hold a word

In a document's order and in a copy of `models/`: a block of Python that begins with `# NAME.py`
becomes that file, any other is run; a block of TOML becomes the recipe that a later command names;
of a block without a language every command of onnxprune is run, of one of `console` every line
behind `$`; a block of `text` is what the program before it prints. Comments of HTML say what cannot
be run, and why: `<!-- needs: torch -->` of a document, `<!-- not run: it needs a GPU -->` of the
block below. What differs between machines, such as times, is compared by its form, all else word
by word. Exits with 1 if anything failed or differs.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
#: Pages of results and history, whose commands take hours; each names its own.
TABLES = ("coverage.md", "operators.md", "reliability.md", "results.md")
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
#: What differs from run to run or from machine to machine, and what stands for it.
_MEASURED = (
    (r"^latency .*", "latency #"),
    (r"(?<=, )[^,]* time\b", "#"),
    (r"(?<=latency )[\d.]+", "#"),
    (r"^blocks .*", "blocks #"),
    (r"onnxruntime \d[\w.]*", "onnxruntime #"),
    (r"cpu .*", "cpu #"),
    (r"[\d.]+ (ms|us|s|min)\b", "# time"),
)


class Block(NamedTuple):
    """A fenced block: its language, content, and why it cannot be run; empty if it can."""

    language: str
    text: str
    why: str


class Step(NamedTuple):
    """Something to run.

    Attributes:
        what: how it is called.
        command: what is run; empty where it cannot be.
        why: it is not run.
        shown: what the document says that it prints; None where it says nothing.
    """

    what: str
    command: Sequence[str]
    why: str
    shown: str | None


def documents() -> list[str]:
    """Pages that tell how something is used, counted from the root."""
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "decisions"]
    names = [page.relative_to(ROOT).as_posix() for page in pages if page.name not in TABLES]
    return ["README.md", *sorted(names)]


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block of a document."""
    for match in _BLOCK.finditer(text):
        yield Block(match["language"], match["text"], match["why"] or "")


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `onnxprune` command in the blocks without a language."""
    for block in blocks(text):
        if not block.language:
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith("onnxprune "):
                    yield shlex.split(line, comments=True)[1:]


def steps(text: str) -> Iterator[Step]:
    """All that a document runs, with what it shows of the output."""
    missing = [name for name in _needed(text) if importlib.util.find_spec(name) is None]
    last: Step | None = None
    for block in blocks(text):
        if block.language == "text":
            if last is not None:
                yield last._replace(shown=block.text)
            last = None
            continue
        for what, command in _runnable(block):
            if last is not None:
                yield last
            why = block.why or (f"needs {', '.join(missing)}" if missing else "")
            last = Step(what, command, why, None)
    if last is not None:
        yield last


def _needed(text: str) -> list[str]:
    found = re.search(r"^<!-- needs: (.*?) -->$", text, re.MULTILINE)
    return found[1].split() if found else []


def _runnable(block: Block) -> Iterator[tuple[str, list[str]]]:
    """What a block runs: a name, and the command."""
    if block.language == "python" and not block.text.startswith("# "):
        lines = re.findall(r"^(?!import|from|class|def)\w.*", block.text, re.MULTILINE)
        yield (lines or ["python"])[-1], [sys.executable, "-c", block.text]
    elif block.language == "console":
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                yield line[2:], ["sh", "-c", line[2:]]
    elif not block.language:
        for words in commands(f"```\n{block.text}```\n"):
            yield shlex.join(words), [sys.executable, "-m", "onnxprune", *words]


def files(text: str, folder: Path) -> None:
    """Write the files that the examples of a document read."""
    for block in blocks(text):
        name = re.match(r"# (\w+\.py)\n", block.text) if block.language == "python" else None
        if name:
            (folder / name[1]).write_text(block.text, encoding="utf-8")
        if block.language == "toml" and "[[stage]]" in block.text:
            (folder / "models/recipe.toml").write_text(block.text, encoding="utf-8")


def plain(text: str) -> list[str]:
    """The lines of an output without what differs from machine to machine."""
    lines = []
    for line in text.strip().splitlines():
        for pattern, form in _MEASURED:
            line = re.sub(pattern, form, line)
        lines.append(" ".join(line.split()))
    return lines


def differences(shown: str, printed: str) -> list[str]:
    """Lines that are shown and not printed, or the other way round; `…` stands for any lines."""
    wanted, found = plain(shown), plain(printed)
    pattern = "\n".join(".*" if line == "…" else re.escape(line) for line in wanted)
    if re.fullmatch(pattern, "\n".join(found), re.DOTALL):
        return []
    lines = difflib.ndiff(wanted, found)
    return [line for line in lines if line[0] in "-+"]


def examples(words: Sequence[str]) -> bool:
    """Run the scripts in `examples/`; whether none failed. What is missing for one is said."""
    from bench_examples import measured, row_of

    good = True
    for values in measured("|".join(map(re.escape, words)), sys.executable):
        ended = "FAILED" if "error" in values else "-" if "skipped" in values else "ok"
        good &= ended != "FAILED"
        print(f"{ended:8}{'':9}{'   '.join(row_of(values))}", flush=True)
    return good


def carried_out(step: Step, folder: Path) -> bool:
    """Run a step and print how it ended; whether that was well."""
    if step.why:
        print(f"{'-':8}{'':9}{step.what}   not run: {step.why}", flush=True)
        return True
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    env = {**os.environ, "PYTHONPATH": path, "PATH": tools, "NO_COLOR": "1"}
    begin = perf_counter()
    done = subprocess.run(step.command, cwd=folder, env=env, capture_output=True, text=True)
    wrong = differences(step.shown, done.stdout) if step.shown is not None else []
    ended = "FAILED" if done.returncode else "DIFFERS" if wrong else "ok"
    print(f"{ended:8}{perf_counter() - begin:6.1f} s  {step.what}", flush=True)
    told = done.stderr.strip().splitlines()[-12:] if done.returncode else []
    for line in (*told, *wrong):
        print(f"        {line}", flush=True)
    return ended == "ok"


def main(words: Sequence[str]) -> int:
    """1 if anything failed or differs."""
    good = True
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in documents()}
    for name, text in texts.items():
        found = list(steps(text))
        named = not words or any(word in name for word in words)
        if not any(named or any(word in step.what for word in words) for step in found):
            continue
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "models", Path(folder) / "models")
            files(text, Path(folder))
            for step in found:
                if named or any(word in step.what for word in words):
                    good &= carried_out(step, Path(folder))
    scripts = [word for word in words if word != "examples"]
    if scripts == [] or any((ROOT / "examples" / word).is_file() for word in scripts):
        print("examples", flush=True)
        good &= examples(scripts)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
