"""The house stays as it is drawn: folders, their imports, sizes of files and functions, seams."""

import ast
import re
from pathlib import Path

import pytest
from architecture import (
    FILES_AT_THE_ROOT,
    MAY_IMPORT,
    PACKAGE,
    PLAIN,
    arrows,
    circles,
    folder,
    folder_arrows,
    modules,
    written,
)
from paths import ROOT

MODULES = modules()
LINES, FUNCTION = 400, 50
#: Who may import a third party: the seam, and onnxruntime's quantiser.
SEAMS = {
    "onnx": {"ir", "pipeline.quantize"},
    "onnxruntime": {"ir.runtime", "pipeline.quantize"},
    "onnx_graphsurgeon": {"ir.load"},
}


def test_every_folder_is_in_the_table():
    there = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert there == MAY_IMPORT.keys()


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_folder_imports_what_the_table_allows(name: str):
    allowed = {name, *MAY_IMPORT[name].split()}
    for module, reads in arrows().items():
        if folder(module) == name:
            for read in reads:
                fits = folder(read) in allowed if folder(read) else read in PLAIN
                assert fits, f"{module} imports {read}, which {name}/ may not"


def test_no_two_folders_import_each_other():
    found = folder_arrows()
    both = {ends: lines for ends, lines in found.items() if ends[::-1] in found}
    assert not both


def test_no_circle():
    assert circles(arrows()) == []
    assert circles({name: set(others.split()) for name, others in MAY_IMPORT.items()}) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "d"]]


def test_few_files_at_the_root():
    assert len(list(PACKAGE.glob("*.py"))) <= FILES_AT_THE_ROOT


def test_the_table_is_written_down():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert text == written(text), "run python tests/support/architecture.py"
    stale = text.replace("| `ir/` |", "| `else/` |")
    assert stale != text and written(stale) == text


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES.keys())
def test_files_and_functions_are_small(path: Path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("seam", SEAMS)
def test_third_parties_have_one_seam(seam: str):
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(imported.split(".")[0] == seam for imported in names):
                assert {name, folder(name)} & SEAMS[seam], f"{name} imports {seam}"


def test_the_walker_knows_no_operator():
    text = (PACKAGE / "groups/dependency.py").read_text(encoding="utf-8")
    strings = {n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)}
    from onnxprune.ops import COUPLINGS

    assert not strings & COUPLINGS.keys()


@pytest.mark.parametrize("path", MODULES.values(), ids=MODULES.keys())
def test_public_names_exist_and_are_sorted(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            assert len(set(names)) == len(names)
            defined = {n.name for n in tree.body if hasattr(n, "name")}
            defined |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets
                        if isinstance(t, ast.Name)}  # fmt: skip
            defined |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign)
                        and isinstance(n.target, ast.Name)}  # fmt: skip
            inner = [m for n in tree.body if isinstance(n, ast.If) for m in n.body]
            imports = [
                n for n in (*tree.body, *inner) if isinstance(n, ast.ImportFrom | ast.Import)
            ]
            defined |= {a.asname or a.name for n in imports for a in n.names}
            assert set(names) <= defined


def test_every_module_says_what_it_is_for():
    for name, path in MODULES.items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert re.match(r"`?[A-Z]", text), name
