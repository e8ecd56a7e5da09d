"""Run the scripts of examples/ as a user would, and tell what came out.

Models and data come from ../shared and from packages on PyPI (see `real_packages`); the scripts
know neither. What is missing is said.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench_processes import ROOT
from real_inputs import DATA, stored
from real_packages import MissingError, cached, content

__all__ = ["EXAMPLES", "HEADER", "TITLE", "Example", "measured", "row_of"]

TITLE = "Examples"
HEADER = ("script", "lines", "what came out", "cpu s")
#: Lines of what scripts print that say what came out.
TOLD = re.compile(r"^(?:verdict|boxes|top-1) +(.*)", re.MULTILINE)
#: Photographs that a detector is calibrated and compared on.
PICTURES = 128


class Example(NamedTuple):
    """A script of examples/, and what finds its arguments; that may write into a folder."""

    script: str
    arguments: Callable[[Path], Sequence[str | Path]]
    needs: Sequence[str] = ()


def _case(model: str, data: str) -> Callable[[Path], Sequence[Path]]:
    """A trained model and its data beside the repository."""

    def found(_folder: Path) -> list[Path]:
        paths = [DATA.parent / "models" / model, DATA / data]
        for path in paths:
            if not path.exists():
                raise MissingError(f"{path.name} is not there")
        return paths

    return found


def _detector(folder: Path) -> list[Path]:
    """NudeNet's YOLOv8n out of its package, and photographs of ImageNet's validation set."""
    model, pictures = folder / "320n.onnx", folder / "pictures"
    model.write_bytes(content(("nudenet", "3.4.2"), "nudenet/320n.onnx", cached()))
    pictures.mkdir()
    held = stored("imagenet128_test.npz")
    jpeg, offsets = held["jpeg"], held["offsets"]
    for k in range(PICTURES):
        (pictures / f"{k:04}.jpg").write_bytes(jpeg[offsets[k] : offsets[k + 1]].tobytes())
    return [model, pictures]


EXAMPLES = (
    Example("pytorch_model.py", lambda _folder: (), ("torch", "onnxscript", "sklearn")),
    Example("pytorch_finetune.py", lambda _folder: (), ("torch", "onnxscript", "sklearn")),
    Example("yolo.py", _detector, ("PIL",)),
    Example("ocr_angle.py", _case("ppocr_cls.onnx", "ppocr_cls.npz")),
    Example("keyword_spotting.py", _case("dscnn_kws.onnx", "kws01.npz")),
    Example("bert.py", _case("bert_tiny3_sst2.onnx", "sst2.npz")),
)


def measured(only: str, python: str) -> Iterator[dict[str, Any]]:
    """What came of each script whose name holds a pattern, or why it did not run."""
    for example in EXAMPLES:
        if not re.search(only, example.script):
            continue
        path = ROOT / "examples" / example.script
        lines = len(path.read_text(encoding="utf-8").splitlines())
        yield {"script": example.script, "lines": lines, **_run(example, path, python)}


def _run(example: Example, path: Path, python: str) -> dict[str, Any]:
    """Run a script in an empty folder."""
    imports = "; ".join(f"import {name}" for name in example.needs)
    if subprocess.run([python, "-c", imports], capture_output=True, check=False).returncode:
        return {"skipped": f"one of {', '.join(example.needs)} is not installed"}
    with tempfile.TemporaryDirectory() as name:
        inputs, folder = Path(name, "inputs"), Path(name, "run")
        inputs.mkdir()
        folder.mkdir()
        try:
            words = [python, str(path), *map(str, example.arguments(inputs))]
        except MissingError as reason:
            return {"skipped": str(reason)}
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *_paths()])}
        before = os.times()
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
        after = os.times()
        if done.returncode:
            return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
        seconds = after.children_user + after.children_system
        seconds -= before.children_user + before.children_system
        written = sorted(one.name for one in folder.glob("*.onnx"))
    told = [" ".join(match[0].split()) for match in TOLD.finditer(done.stdout)]
    return {"told": told, "seconds": seconds, "written": written}


def _paths() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def row_of(values: dict[str, Any]) -> Sequence[str]:
    """One row of the table."""
    about = f"`{values['script']}`", str(values["lines"])
    if "told" not in values:
        kind = "skipped" if "skipped" in values else "error"
        return (*about, f"{kind}: {values[kind]}", "")
    return (*about, "; ".join(values["told"]).removeprefix("verdict "), f"{values['seconds']:.0f}")
