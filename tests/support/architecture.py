"""What may import what: one table of folders, from which CONTRIBUTING's table is written."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from paths import ROOT

PACKAGE = ROOT / "onnxprune"
#: Folders that the files of each folder may import, beside the plain values at the root.
MAY_IMPORT = {
    "ir": "",
    "parallel": "",
    "ops": "",
    "groups": "ir ops",
    "surgery": "groups ir ops",
    "calibration": "groups ir ops",
    "compensation": "calibration groups ir ops surgery",
    "importance": "calibration compensation groups ir ops parallel surgery",
    "allocation": "groups ir ops surgery",
    "spatial": "groups ir ops surgery",
    "sparsity": "allocation calibration compensation groups importance ir ops surgery",
    "training": "calibration compensation groups ir ops",
    "report": "groups ir sparsity surgery",
    "terminal": "report",
    "pipeline": "allocation calibration compensation groups importance ir ops report sparsity "
    "spatial surgery training",
    "torch": "groups ir ops surgery",
}
#: Values and helpers at the root that every folder may import.
PLAIN = {
    *("atomic_files", "errors", "progress", "settings", "temporary_files"),
    *("types", "user_code", "version"),
}
FILES_AT_THE_ROOT = 16


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, tests beside the code left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.name.endswith("_test.py"):
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the package that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [n if n.removeprefix("onnxprune.") in known else node.module for n in whole]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.split(".")[0] == "onnxprune":
                yield name.removeprefix("onnxprune").lstrip(".")


def arrows() -> dict[str, set[str]]:
    """What each module imports."""
    known = modules()
    return {name: set(imports(path, known)) for name, path in known.items()}


def folder(name: str) -> str:
    """The folder of a module, "" for files at the root."""
    return name.partition(".")[0] if (PACKAGE / name.partition(".")[0]).is_dir() else ""


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules that import each other in a circle, by removing those that import nothing left."""
    left = {name: set(reads) - {name} for name, reads in graph.items()}
    while free := [name for name, reads in left.items() if not reads & left.keys()]:
        for name in free:
            del left[name]
    return [sorted(left)] if left else []


def folder_arrows() -> dict[tuple[str, str], list[str]]:
    """Imports between two folders, as text."""
    found = defaultdict(list)
    for name, reads in arrows().items():
        for read in reads:
            ends = folder(name), folder(read)
            if all(ends) and ends[0] != ends[1]:
                found[ends].append(f"{name} imports {read}")
    return found


def table() -> str:
    """The table of folders for CONTRIBUTING: what each is for and what it may import."""
    rows = ["| folder | what it is for | may import |", "| --- | --- | --- |"]
    for name, others in MAY_IMPORT.items():
        tree = ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))
        first = (ast.get_docstring(tree) or "").splitlines()[0]
        rows.append(f"| `{name}/` | {first} | {', '.join(others.split()) or '-'} |")
    return "\n".join(rows)


def written(text: str) -> str:
    """CONTRIBUTING with a fresh table between its markers."""
    start, end = "<!-- folders -->\n", "\n<!-- /folders -->"
    before, _, rest = text.partition(start)
    return f"{before}{start}{table()}{end}{rest.partition(end.lstrip())[2]}"


if __name__ == "__main__":
    path = ROOT / "CONTRIBUTING.md"
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
