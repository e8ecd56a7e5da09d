"""Floors: a module imports from lower floors only. Files, functions and names stay small."""

import ast
import re
from pathlib import Path

import pytest

import onnxprune

PACKAGE = Path(onnxprune.__file__).parent
FLOORS = [
    "types errors version progress bodies distillation.mixtures distillation.__init__ "
    "allocation.__init__ latency.__init__ sparse.__init__",
    "graph runtime order flat usercode spool drawing sparse.patterns",
    "surgery skeleton reference biases external prepare ops distillation.tape latency.times",
    "shapes trace weights cost rewrite feeds settings constants userrules saving segments sharing "
    "precompute moments divergence latency.stopwatch sparse.masks",
    "layers obs carry sources gaussian distillation.views latency.timetable "
    "sparse.sparsegpt sparse.sparsible sparse.sparsity",
    "beliefs readings importance select allocation.ledger calibration covariances sparse.choice "
    "sparse.density",
    "validate targets survey probes quantise distillation.lessons allocation.descent "
    "allocation.refining",
    "plans lossless report ranking steps paths consumers activations blocks gauge latency.pieces "
    "allocation.allocate",
    "aims refitting latency.staircase sparse.scores",
    "querykey sparse.masked sparse.table sparse.storage",
    "sensitivity folding sidebyside",
    "compensate curves gate sparse.walk distillation.tuning distillation.derivatives",
    "distillation.derivatives_space",
    "distillation.gradients",
    "distillation.losses",
    "distillation.distill",
    "cutting evaluation",
    "latency.fastest",
    "measure widths resume latency.footprint latency.padding depth",
    "calibrated datafree outcome latency.benching sparse.report sparse.calibrated",
    "pipeline checking tables sparse.sparsify",
    "recipes",
    "cooking",
    "options",
    "sparse.commands",
    "cli __init__",
    "__main__",
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
MODULES = [p for p in sorted(PACKAGE.rglob("*.py")) if not p.name.endswith("_test.py")]
LINES, FUNCTION = 400, 50


#: Folders whose modules have floors of their own; all of ops has one.
FOLDERS = {"allocation", "distillation", "latency", "sparse"}


def place(path: Path) -> str:
    """The module's name on its floor; everything in ops is `ops`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] in FOLDERS else parts[0]


def imported(tree: ast.AST) -> set[str]:
    """Modules of the package that a module imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            parts = node.module.split(".")
            if parts[0] == "onnxprune":
                whole = len(parts) == 1 or (len(parts) == 2 and parts[1] in FOLDERS)
                names = [[*parts, alias.name] for alias in node.names] if whole else [parts]
                found |= {".".join(n[1 : 3 if n[1] in FOLDERS else 2]) for n in names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] for parts in names if parts[0] == "onnxprune" and len(parts) > 1}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path):
    own = place(path)
    for name in imported(ast.parse(path.read_text())) - ({"ops"} if own == "ops" else set()):
        above = f"{own} (floor {FLOOR[own]}) imports {name} (floor {FLOOR[name]})"
        assert FLOOR[name] < FLOOR[own], above


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_are_small(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION, f"{path.name}: {node.name} has {length} lines"


def test_the_floors_are_written_down():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| \d+ \| (.*) \|$", text, re.MULTILINE)
    found = [set(row.replace("`", "").split(", ")) for row in rows]
    assert found == [
        {name for name in floor.split() if not name.endswith(".__init__")} for floor in FLOORS
    ]


@pytest.mark.parametrize("seam", ["onnx", "onnxruntime", "onnx_graphsurgeon"])
def test_third_parties_have_one_seam(seam: str):
    editing = "biases bodies flat graph order prepare reference sharing skeleton surgery"
    editing += " distillation.tape sparse.storage"
    seams = {"onnx": set(editing.split()), "onnxruntime": {"quantise", "runtime"}}
    allowed = seams.get(seam, {"graph"})
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == seam for name in names):
                assert place(path) in allowed, f"{path.name} imports {seam}"


def test_the_walker_knows_no_operator():
    text = (PACKAGE / "trace.py").read_text()
    strings = {n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)}
    from onnxprune.ops import COUPLINGS

    assert not strings & COUPLINGS.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_exist_and_are_sorted(path: Path):
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            assert len(set(names)) == len(names)
            defined = {n.name for n in tree.body if hasattr(n, "name")}
            defined |= {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets
                        if isinstance(t, ast.Name)}  # fmt: skip
            defined |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign)}
            imports = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
            defined |= {a.asname or a.name for n in imports for a in n.names}
            assert set(names) <= defined
