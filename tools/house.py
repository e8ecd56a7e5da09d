"""Print figures of the house: folders, imports, sizes, operator names, words, tests, analyses.

    python tools/house.py                  # this checkout
    python tools/house.py OLD NEW          # two checkouts side by side
    python tools/house.py --json [PATH …]
    python tools/house.py --list 'operator names outside ops/' [PATH]   # every place that counts

`git worktree add ../old COMMIT` puts an old commit beside this one. Only the standard library is
needed, but for the last figure, which runs a small calibrated prune of the checkout in a process
of its own (`--no-run` leaves it out). What each figure counts is the docstring of its function
below; tests beside the code (`*_test.py`) count as tests, not as modules.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Words that nobody outside this project knows a stage by; the field has its own.
PRIVATE = frozenset(
    "aim aims belief beliefs believe believed carrier carry cooked cooking gauge gauges kitchen "
    "ledger lesson lessons probe probes reading readings school sidebyside spool spools stopwatch "
    "survey surveyed timetable".split()
)
#: Tests in these folders of tests/ stand for the whole program or for tools, not for one module.
NO_MIRROR = ("end_to_end", "support", "tools")
#: Modules that hold nothing a test of their own could look at.
BARE = ("__init__", "__main__", "version")
#: Counts the calls of the function that analyses a model, under whatever name a module holds it.
COUNT = """
import importlib, pkgutil, sys
import numpy as np
import onnxprune


def counting(function, calls):
    def counted(*args, **kwargs):
        calls.append(function.__name__)
        return function(*args, **kwargs)

    for name, module in list(sys.modules.items()):
        if name.startswith("onnxprune"):
            for key in [key for key, value in vars(module).items() if value is function]:
                setattr(module, key, counted)


for module in pkgutil.walk_packages(onnxprune.__path__, "onnxprune."):
    if not module.name.endswith(("_test", "__main__")):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as missing:  # of an extra that is not installed
            if missing.name.startswith("onnxprune"):
                raise
places = ("onnxprune.groups.analysis", "analyze"), ("onnxprune.survey", "survey")
known = [getattr(sys.modules.get(place), name, None) for place, name in places]
functions, calls = [function for function in known if function], []
if not functions:
    sys.exit("no function that analyses a model is known")
counting(functions[0], calls)
with np.load(sys.argv[2]) as file:
    calib = {"image": file["image"][:128]}
onnxprune.prune(sys.argv[1], {"macs": 0.5}, calib=calib, distill=2, latency=False)
print(len(calls))
"""


@dataclass(frozen=True)
class House:
    """A checkout: its root, and the syntax tree of every module of the package."""

    root: Path

    @cached_property
    def package(self) -> Path:
        """The folder of the package."""
        return self.root / "onnxprune"

    @cached_property
    def trees(self) -> dict[Path, ast.Module]:
        """Path below the package → tree, tests left out."""
        paths = sorted(p for p in self.package.rglob("*.py") if not p.name.endswith("_test.py"))
        return {p.relative_to(self.package): ast.parse(p.read_text("utf-8")) for p in paths}

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Dotted name → path below the package."""
        named = {".".join(("onnxprune", *p.with_suffix("").parts)): p for p in self.trees}
        return {name.removesuffix(".__init__"): path for name, path in named.items()}

    @cached_property
    def imports(self) -> list[tuple[Path, Path]]:
        """Distinct pairs of files: who imports whom, also inside functions."""
        found = set()
        for path, tree in self.trees.items():
            for name in _imported(tree):
                read = self.modules.get(name) or self.modules.get(name.rpartition(".")[0])
                if read is not None and read != path:
                    found.add((path, read))
        return sorted(found)

    def walk(self, *kinds: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
        """Every node of some kinds, with its file."""
        for path, tree in self.trees.items():
            yield from ((path, node) for node in ast.walk(tree) if isinstance(node, kinds))

    def lines(self, path: Path) -> list[str]:
        """The lines of a file that are not empty."""
        text = (self.package / path).read_text("utf-8")
        return [line for line in text.splitlines() if line.strip()]


def _imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a file imports of the package: modules, or names in modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "onnxprune")


def _place(path: Path) -> str:
    """The folder of the package that a file lies in, or the file itself at the root."""
    return path.parts[0] + "/" * (len(path.parts) > 1)


def root_modules(house: House) -> list[str]:
    """Python files in the package's own folder, `__init__` and `__main__` included."""
    return [str(path) for path in house.trees if len(path.parts) == 1]


def folders(house: House) -> list[str]:
    """Folders of the package that hold Python files, at any depth."""
    return sorted({str(path.parent) for path in house.trees} - {"."})


def place_imports(house: House) -> list[str]:
    """Distinct pairs (who, whom) of places; a place is a folder, or one file at the root."""
    pairs = {(_place(a), _place(b)) for a, b in house.imports}
    return sorted(f"{a} imports {b}" for a, b in pairs if a != b)


def folder_imports(house: House) -> list[str]:
    """Distinct pairs of folders of the package, files at the root left out."""
    return [line for line in place_imports(house) if line.count("/") == 2]


def mutual(house: House) -> list[str]:
    """Pairs of places that import each other."""
    pairs = {(_place(a), _place(b)) for a, b in house.imports}
    return sorted(f"{a} and {b}" for a, b in pairs if a < b and (b, a) in pairs)


def file_imports(house: House) -> list[str]:
    """Distinct pairs of files, one of which imports the other."""
    return [f"{a} imports {b}" for a, b in house.imports]


def long_files(house: House, limit: int) -> list[str]:
    """Files with more lines than a limit, empty ones and comments included."""
    sizes = {p: (house.package / p).read_text("utf-8").count("\n") for p in house.trees}
    return [f"{path}: {size}" for path, size in sizes.items() if size > limit]


def long_functions(house: House, limit: int) -> list[str]:
    """Functions and methods of more lines than a limit, from `def` to the end."""
    found = []
    for path, node in house.walk(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        size = (node.end_lineno or 0) - node.lineno + 1
        if size > limit:
            found.append(f"{path}:{node.lineno}: {node.name}, {size}")
    return found


def operators(house: House) -> set[str]:
    """Operators that docs/operators.md lists: all of the standard, and others that are known."""
    text = (house.root / "docs/operators.md").read_text("utf-8")
    return set(re.findall(r"^\| ([A-Z]\w*) \| [\w.]+ \|", text, re.MULTILINE))


def operator_names(house: House) -> list[str]:
    """Operator names in strings outside ops/, docstrings left out.

    A string counts if it is a name, with or without a domain, or a list of names between blanks;
    then every name in it counts.
    """
    known, found = operators(house), []
    for path, tree in house.trees.items():
        if path.parts[0] == "ops":
            continue
        texts = _docstrings(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in texts:
                words = [word.rpartition(":")[2] for word in node.value.split()]
                if words and known.issuperset(words):
                    found += [f"{path}:{node.lineno}: {word}" for word in words]
    return found


def _docstrings(tree: ast.Module) -> set[ast.AST]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    firsts = [n.body[0] for n in ast.walk(tree) if isinstance(n, owners) and n.body]
    return {first.value for first in firsts if isinstance(first, ast.Expr)}


def operator_modules(house: House) -> list[str]:
    """Modules outside ops/ that hold such a name."""
    return sorted({line.partition(":")[0] for line in operator_names(house)})


def tuple_parameters(house: House) -> list[str]:
    """Parameters annotated `tuple[A, B, …]` of different types, alone or in a union.

    `tuple[X, ...]` and tuples of one type, such as shapes and pairs, are not counted.
    """
    found = []
    for path, node in house.walk(ast.arg):
        assert isinstance(node, ast.arg)
        if node.annotation is not None and any(map(_mixed, _alternatives(node.annotation))):
            found.append(f"{path}:{node.lineno}: {node.arg}: {ast.unparse(node.annotation)}")
    return found


def _alternatives(annotation: ast.expr) -> Iterator[ast.expr]:
    if isinstance(annotation, ast.BinOp):
        yield from (*_alternatives(annotation.left), *_alternatives(annotation.right))
    else:
        yield annotation


def _mixed(annotation: ast.expr) -> bool:
    if not isinstance(annotation, ast.Subscript) or ast.unparse(annotation.value) != "tuple":
        return False
    parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else []
    kinds = [ast.unparse(part) for part in parts]
    return "..." not in kinds and len(set(kinds)) > 1


def private_words(house: House) -> list[str]:
    """Identifiers and files named by a private word, and analyses of a model called `found`."""
    found = [f"{path}: its name" for path in house.trees if _private(path.stem)]
    kinds = (ast.Name, ast.Attribute, ast.arg, ast.FunctionDef, ast.ClassDef, ast.keyword)
    for path, node in house.walk(*kinds):
        (name,) = (str(v) for k, v in ast.iter_fields(node) if k in ("id", "attr", "arg", "name"))
        kind = getattr(node, "annotation", None)
        whole = name == "found" and kind and re.search(r"\b(Analysis|Survey)\b", ast.unparse(kind))
        if whole or _private(name):
            found.append(f"{path}:{getattr(node, 'lineno', 0)}: {name}")
    return found


def _private(name: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return any(word.lower() in PRIVATE for word in words)


def tests(house: House) -> list[str]:
    """Files `tests/**/test_*.py`, and `*_test.py` beside the code."""
    beside = house.package.rglob("*_test.py")
    return sorted(
        str(p.relative_to(house.root))
        for p in [*(house.root / "tests").rglob("test_*.py"), *beside]
    )


def _mirrors(path: Path) -> tuple[str, str]:
    """The two places where the test of a module may lie."""
    beside = Path("onnxprune") / path.with_name(f"{path.stem}_test.py")
    return str(Path("tests") / path.with_name(f"test_{path.stem}.py")), str(beside)


def untested(house: House) -> list[str]:
    """Modules without `tests/<folder>/test_<file>.py` and without `<file>_test.py` beside them."""
    there = set(tests(house))
    return [str(p) for p in house.trees if p.stem not in BARE and there.isdisjoint(_mirrors(p))]


def astray(house: House) -> list[str]:
    """Tests that mirror no module and lie in none of tests/end_to_end, support and tools."""
    places = {place for path in house.trees for place in _mirrors(path)}
    return [t for t in tests(house) if t not in places and Path(t).parts[1] not in NO_MIRROR]


FIGURES: dict[str, Callable[[House], list[str]]] = {
    "modules": lambda house: [str(path) for path in house.trees],
    "lines that are not empty": lambda house: [li for p in house.trees for li in house.lines(p)],
    "modules at the root": root_modules,
    "folders": folders,
    "imports between places": place_imports,
    "imports between folders": folder_imports,
    "places that import each other": mutual,
    "imports between files": file_imports,
    "files over 300 lines": lambda house: long_files(house, 300),
    "files over 400 lines": lambda house: long_files(house, 400),
    "functions over 40 lines": lambda house: long_functions(house, 40),
    "functions over 50 lines": lambda house: long_functions(house, 50),
    "operator names outside ops/": operator_names,
    "modules with such names": operator_modules,
    "parameters that are anonymous tuples": tuple_parameters,
    "private words in names": private_words,
    "test files": tests,
    "modules without a test": untested,
    "tests without a module": astray,
}
RUN = "analyses per calibrated prune"


def analyses(root: Path) -> int | None:
    """How often a calibrated prune in one step analyses a model; None if it cannot be counted.

    `models/digits.onnx` to half its MACs on 128 samples, distilled for two rounds.
    """
    files = [str(root / "models" / name) for name in ("digits.onnx", "digits_calib.npz")]
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(root), "XDG_CACHE_HOME": folder}
        command = [sys.executable, "-c", COUNT, *files]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        print(f"{root}: {RUN}: {why[-1]}", file=sys.stderr)
        return None
    return int(done.stdout.split()[-1])


def figures(root: Path, run: bool = True) -> dict[str, int | None]:
    """Every figure of the checkout at `root` by its name."""
    house = House(root)
    found: dict[str, int | None] = {name: len(places(house)) for name, places in FIGURES.items()}
    return {**found, RUN: analyses(root)} if run else found


def table(columns: dict[str, dict[str, int | None]]) -> str:
    """The figures as text, one column for each checkout."""
    names = list(next(iter(columns.values())))
    rows = [(name, *(str(column[name]) for column in columns.values())) for name in names]
    rows = [("", *columns), *rows] if len(columns) > 1 else rows
    first, *others = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([f"{name:{first}}", *(f"{c:>{w}}" for c, w in zip(cells, others, strict=True))])
        for name, *cells in rows
    )


def main() -> int:
    """Print what the command line asks for."""
    parser = argparse.ArgumentParser(description="Figures of the house.")
    parser.add_argument("paths", metavar="PATH", nargs="*", type=Path, help="roots of checkouts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--no-run", action="store_true", help="run nothing, only read the source")
    parser.add_argument("--list", choices=FIGURES, metavar="FIGURE", help="print what it counts")
    asked = parser.parse_args()
    roots = {str(path): path.resolve() for path in asked.paths} or {ROOT.name: ROOT}
    for name, root in roots.items():
        if not (root / "onnxprune").is_dir():
            parser.error(f"{name}: no checkout, it has no folder onnxprune")
    if asked.list:
        print("\n".join(line for r in roots.values() for line in FIGURES[asked.list](House(r))))
        return 0
    columns = {name: figures(root, not asked.no_run) for name, root in roots.items()}
    print(json.dumps(columns, indent=1) if asked.json else table(columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
