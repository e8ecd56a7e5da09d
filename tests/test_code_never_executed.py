"""Models, plans, recipes, caches and data are read, never run; code comes from the user alone.

Each hostile file would leave a mark if anything in it were executed. The first tests assert that
the package holds no means to do so, but for the one place that runs what the user names.
"""

import ast
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from architecture import PACKAGE, modules
from click.testing import CliRunner
from networks import NETWORKS

import onnxprune
from onnxprune.cli import main
from onnxprune.errors import InputError

#: Modules that turn bytes or names into running code.
RUNNING = {
    *("pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "copyreg"),
    *("yaml", "runpy", "imp", "ctypes", "cffi", "code", "codeop", "pty"),
}
#: Names of builtins and functions that do.
CALLS = {"eval", "exec", "compile", "__import__", "system", "popen", "execv", "spawnv", "fork"}
#: What may import by name, and run processes: the user's own code, packages named in the text, and
#: modules of the package that a table in the text names.
IMPORTING = {"", "cli", "user_code", "sparsity.density"}
PROCESSES = {"pipeline.bench"}


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """All syntax of the package, with the name of the module."""
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield name, node


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def called(node: ast.AST) -> str:
    """The last part of the name of what is called."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_the_package_holds_no_means_to_run_what_it_reads():
    tops = {(name, module.partition(".")[0]) for name, node in nodes() for module in imported(node)}
    running = {pair for pair in tops if pair[1] in RUNNING}
    assert running == {("parallel.tasks", "joblib")}  # messages between processes of one run
    assert {name for name, module in tops if module == "importlib"} == IMPORTING
    assert {name for name, module in tops if module == "subprocess"} == PROCESSES
    own = "re"
    found = [
        (name, ast.unparse(node))
        for name, node in nodes()
        if called(node) in CALLS and not ast.unparse(node).startswith(f"{own}.compile(")
    ]
    assert found == []


def test_arrays_are_loaded_without_objects():
    calls = [node for _, node in nodes() if called(node) in ("load", "read_array")]
    texts = [ast.unparse(node) for node in calls]
    arrays = [text for text in texts if text.startswith(("np.load(", "np.lib.format.read_array("))]
    assert len(arrays) >= 3 and all("allow_pickle=False" in text for text in arrays)
    assert not any("allow_pickle" in ast.unparse(node) and "True" in ast.unparse(node)
                   for _, node in nodes() if isinstance(node, ast.keyword))  # fmt: skip


def test_modules_are_imported_by_names_in_the_text_alone():
    """`import_module` gets packages from a list in the text, a path comes from the user."""
    users = {name for name, node in nodes() if called(node) in ("exec_module", "import_module")}
    assert users == IMPORTING
    tree = ast.parse((PACKAGE / "sparsity/density.py").read_text(encoding="utf-8"))
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)
             and "import_module" in ast.unparse(node)]  # fmt: skip
    assert len(loops) == 1 and ast.literal_eval(loops[0].iter)


def test_only_samples_scores_and_losses_may_be_code():
    users = {name for name, node in nodes() if called(node) == "function_of"}
    assert users == {"calibration.sources", "pipeline.score_search", "training.own_loss"}


class Hostile:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mark"
    pickle.loads(pickle.dumps(Hostile(path)))
    assert path.exists(), "the trap works"
    path.unlink()
    (tmp_path / "code.py").write_text(
        f"open({str(path)!r}, 'w').close()\ndef f(*_):\n    return 1.0\n"
    )
    onnx.save(NETWORKS["chain"](), tmp_path / "m.onnx")
    yield path
    assert not path.exists(), "something was executed"


def refused(*words: object) -> str:
    """The one line that a command ends with, exit code 2."""
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 2, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Usage")]
    assert len(lines) == 1 and lines[0].startswith("Error: ")
    return lines[0]


@pytest.mark.parametrize("option", ["--calib", "--data"])
@pytest.mark.parametrize("name", ["d.npz", "d.npy", "d.pkl"])
def test_samples_with_objects_are_refused(tmp_path: Path, mark: Path, option: str, name: str):
    path = tmp_path / name
    array = np.array([Hostile(mark)], object)
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=True, image=array)
    elif path.suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Hostile(mark)))
    where = tmp_path / "m.onnx", tmp_path / "o.onnx"
    refused("prune", *where, "--target", "macs=0.7", option, path)
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize("key", ["calib", "more", "evaluate", "data", "rules", "custom_ops"])
def test_a_recipe_runs_nothing(tmp_path: Path, mark: Path, key: str):
    recipe = tmp_path / "r.toml"
    stage = "[[stage]]\nkind = 'sparsify'\nsparsity = 0.5\n"
    recipe.write_text(f"{key} = '{tmp_path}/code.py:f'\n{stage}")
    refused("run", recipe, tmp_path / "m.onnx", tmp_path / "o.onnx", "--no-latency")
    recipe.write_text(f"{stage}{key} = '{tmp_path}/code.py:f'\n")
    refused("run", recipe, tmp_path / "m.onnx", tmp_path / "o.onnx", "--no-latency")


def test_the_command_line_and_python_may_name_code(tmp_path: Path, mark: Path):
    recipe = tmp_path / "r.toml"
    recipe.write_text("[[stage]]\nkind = 'sparsify'\nsparsity = 0.5\n")
    words = ["run", recipe, tmp_path / "m.onnx", tmp_path / "o.onnx", "--no-latency"]
    words += ["--evaluate", f"{tmp_path}/code.py:f"]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0 and mark.exists()
    mark.unlink()


@pytest.mark.parametrize("where", ["plan", "steps", "curves"])
def test_plans_and_caches_run_nothing(tmp_path: Path, mark: Path, where: str):
    code = f"{tmp_path}/code.py:f"
    values = {"onnxprune": where, "model_sha256": code, "keep": {code: [code]}, "entries": code}
    texts = [json.dumps(values), json.dumps({**values, "keep": code}), code]
    for content in [*map(str.encode, texts), pickle.dumps(Hostile(mark))]:
        path = tmp_path / "file"
        path.write_bytes(content)
        if where == "plan":
            refused("apply", tmp_path / "m.onnx", path, tmp_path / "o.onnx")
        else:
            small: Any = {"calib": "random", "calib_samples": 4, "latency": False, "distill": False}
            onnxprune.prune(str(tmp_path / "m.onnx"), {"ratio": 0.9}, cache=path, **small)


@pytest.mark.parametrize("where", ["metadata", "operator", "external"])
def test_a_model_loads_no_library_and_no_file_of_code(tmp_path: Path, mark: Path, where: str):
    """Neither what metadata name, nor an operator's domain, nor an external file is run."""
    model = onnx.load(tmp_path / "m.onnx")
    code = str(tmp_path / "code.py")
    if where == "metadata":
        for key in ("ort_config", "custom_ops", "custom_ops_library", "rules", "calib"):
            model.metadata_props.add(key=key, value=json.dumps({"library": code, "code": code}))
    elif where == "operator":
        model.graph.node.add(op_type="PyOp", domain="ai.onnx.contrib", output=["extra"],
                             input=[model.graph.input[0].name]).attribute.add(
            name="module", type=onnx.AttributeProto.STRING, s=code.encode())  # fmt: skip
        model.graph.output.append(onnx.ValueInfoProto(name="extra"))
        model.opset_import.add(domain="ai.onnx.contrib", version=1)
    else:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="code.py")
    onnx.save(model, tmp_path / "h.onnx")
    words = ["prune", tmp_path / "h.onnx", tmp_path / "o.onnx", "--target", "macs=0.8"]
    result = CliRunner().invoke(main, [*map(str, words), "--no-latency"])
    assert result.exit_code == (0 if where == "metadata" else 2), result.output


def test_a_mapping_may_name_code_from_python_only(tmp_path: Path, mark: Path):
    """`onnxprune.recipe` takes what the caller wrote, not a file."""
    with pytest.raises((InputError, TypeError, AttributeError)):
        onnxprune.recipe(str(tmp_path / "r.toml"))  # type: ignore[arg-type]
