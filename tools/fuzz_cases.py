"""One case: which model, how it is mutated, and which command reads it, all from a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import fuzz_files
from fuzz_files import BYTES
from fuzz_graphs import GRAPHS
from fuzz_seeds import Seed
from fuzz_values import VALUES
from onnx import ModelProto

__all__ = ["KINDS", "MODEL", "OUTPUT", "SAMPLES", "Case", "case", "mutated"]

MODEL, OUTPUT, SAMPLES = "model.onnx", "out.onnx", "calib.npz"
_FILES = ("samples", "data", "plan", "recipe", "rules", "cache", "external file", "test data set")
#: Every kind of mutation; the number of a case says which it has.
KINDS = (*(f"model: {name}" for name in (*BYTES, *GRAPHS, *VALUES)), *_FILES)

_PRUNE = f"prune -q {MODEL} {OUTPUT} --no-latency"
_CALIB = f"--calib {SAMPLES} --calib-samples 4"
#: Commands with how often each is drawn.
_COMMANDS: tuple[tuple[int, str], ...] = (
    (4, f"inspect {MODEL}"),
    (2, f"inspect {MODEL} --json"),
    (2, f"inspect {MODEL} --sparsity"),
    (5, f"{_PRUNE} --target macs=0.7"),
    (2, f"{_PRUNE} --target params=0.7 --report report.json --plan made.json"),
    (2, f"{_PRUNE} --target ratio=0.7 --importance l2 --no-compensate"),
    (1, f"{_PRUNE} --target size=0.8 --importance fpgm --scope layer"),
    (1, f"{_PRUNE} --target macs=0.8 --allow-inexact --external-data"),
    (2, f"{_PRUNE} --target macs=0.8 --data {SAMPLES}"),
    (3, f"{_PRUNE} --target macs=0.7 {_CALIB} --no-distill"),
    (2, f"{_PRUNE} --target macs=0.7 {_CALIB} --distill-rounds 1"),
    (1, f"{_PRUNE} --target macs=0.7 {_CALIB} --steps 2 --cache cache.json --no-distill"),
    (1, f"{_PRUNE} --target macs=0.7 --calib random --calib-samples 4 --importance wanda"),
    (1, f"{_PRUNE} --target blocks=1 {_CALIB} --no-distill"),
    (4, f"{_PRUNE} --lossless"),
    (1, f"{_PRUNE} --lossless --target macs=0.8 {_CALIB} --no-distill"),
    (2, f"sparsify -q {MODEL} {OUTPUT} --sparsity 0.5 --no-latency"),
    (1, f"sparsify -q {MODEL} {OUTPUT} --pattern 2:4 --no-latency {_CALIB} --no-distill"),
    (1, f"sparsify -q {MODEL} {OUTPUT} --threshold 0 --storage sparse --no-latency"),
    (1, f"sensitivity {MODEL} {_CALIB} --json table.json"),
    (2, f"check {MODEL} original.onnx --no-latency"),
    (1, f"check original.onnx {MODEL} --no-latency --data {SAMPLES} --max-drop 0.5"),
    (1, f"bench {MODEL} original.onnx"),
    (2, f"run recipe.toml {MODEL} {OUTPUT} -q --no-latency"),
    (1, f"apply -q {MODEL} plan.json {OUTPUT} --no-latency"),
)
#: Commands that read each other file.
_READERS = {
    "samples": [
        f"{_PRUNE} --target macs=0.7 {_CALIB} --no-distill",
        f"{_PRUNE} --target macs=0.7 {_CALIB} --distill-rounds 1",
        f"sparsify -q {MODEL} {OUTPUT} --sparsity 0.5 --no-latency {_CALIB} --no-distill",
        f"sensitivity {MODEL} {_CALIB} --json table.json",
    ],
    "data": [
        f"{_PRUNE} --target macs=0.8 --data {SAMPLES}",
        f"check {MODEL} original.onnx --no-latency --data {SAMPLES}",
        f"sparsify -q {MODEL} {OUTPUT} --sparsity 0.5 --no-latency --data {SAMPLES}",
    ],
    "plan": [f"apply -q {MODEL} plan.json {OUTPUT} --no-latency"],
    "recipe": [f"run recipe.toml {MODEL} {OUTPUT} -q --no-latency"],
    "rules": [
        f"inspect {MODEL} --rules rules.toml",
        f"{_PRUNE} --target macs=0.8 --rules rules.toml",
    ],
    "cache": [
        f"{_PRUNE} --target macs=0.7 {_CALIB} --steps 2 --cache cache.json --no-distill",
        f"sensitivity {MODEL} {_CALIB} --cache cache.json",
    ],
    "external file": [f"inspect {MODEL}", f"{_PRUNE} --target macs=0.8", f"{_PRUNE} --lossless"],
    "test data set": [f"{_PRUNE} --target macs=0.7 --calib set --no-distill"],
}
_RECIPE = f"""calib = "{SAMPLES}"
calib_samples = 4
seed = 0

[[stage]]
kind = "prune"
target = {{ macs = 0.8 }}
distill = false
min_channels = 1

[[stage]]
kind = "sparsify"
sparsity = 0.3
distill = false

[[stage]]
kind = "quantise"
mode = "static"
"""
_RULES = """["Relu"]
kind = "elementwise"
parameters = { 1 = 1 }
override = true

["com.acme:Sort"]
kind = "barrier"
reason = "it sorts"

["Conv"]
kind = "passes"
axes = [0, 1]
override = true
"""


@dataclass(frozen=True)
class Case:
    """What to run; its files lie in the folder already. `before` makes some of them."""

    kind: str
    seed: str
    args: list[str]
    detail: str = ""


def case(number: int, drawn: str, seeds: Sequence[Seed], run: Callable[[list[str]], int]) -> Case:
    """Write the files of a case into the working folder.

    Args:
        number: of the case.
        drawn: what all its choices are drawn from, beside the number.
        seeds: models.
        run: runs a command line and gives its exit code; to make plans and caches.
    """
    rng = Random(f"{drawn}/{number}")
    kind = KINDS[number % len(KINDS)]
    fitting = [seed for seed in seeds if seed.beside] if kind == "external file" else seeds
    seed = rng.choice(list(fitting))
    for name, data in seed.beside.items():
        Path(name).write_bytes(data)
    for name in (MODEL, "original.onnx"):
        Path(name).write_bytes(seed.model)
    Path(SAMPLES).write_bytes(seed.calib())
    Path("recipe.toml").write_text(_RECIPE)
    Path("rules.toml").write_text(_RULES)
    if kind in _READERS:
        text = rng.choice(_READERS[kind])
        return Case(kind, seed.name, text.split(), _side(kind, seed, rng, run))
    counts, texts = zip(*_COMMANDS, strict=True)
    text = rng.choices(texts, counts)[0]
    if "plan.json" in text:
        _plan(run)
    done = [kind.removeprefix("model: ")]
    if rng.random() < 0.15:
        done.append(rng.choice([*GRAPHS, *VALUES]))
    Path(MODEL).write_bytes(mutated(seed.model, done, rng))
    return Case(kind, seed.name, text.split(), ", ".join(done))


def mutated(data: bytes, kinds: Sequence[str], rng: Random) -> bytes:
    """A model file with mutations of these kinds, one after the other."""
    for kind in kinds:
        if kind in BYTES:
            return BYTES[kind](data, rng)
        model = ModelProto.FromString(data)
        {**GRAPHS, **VALUES}[kind](model, rng)
        data = model.SerializeToString()
    return data


def _plan(run: Callable[[list[str]], int]) -> None:
    """A plan of the model that is there; one of nothing where it cannot be pruned."""
    made = f"prune -q {MODEL} {OUTPUT} --target ratio=0.7 --no-latency --plan plan.json --dry-run"
    if run([*made.split(), "--no-compensate"]):
        Path("plan.json").write_text('{"version": 1, "model_sha256": "", "axes": []}')


def _side(kind: str, seed: Seed, rng: Random, run: Callable[[list[str]], int]) -> str:
    """Make the other file that a case is about, hostile; what was done."""
    if kind in ("samples", "data"):
        return fuzz_files.samples(Path(SAMPLES), seed.arrays, rng)
    if kind == "test data set":
        Path("set").mkdir()
        for k, array in enumerate(seed.arrays.values()):
            tensor = onnx_tensor(array)
            Path(f"set/input_{k}.pb").write_bytes(fuzz_files.damaged(tensor, rng))
        return ""
    if kind == "plan":
        _plan(run)
    if kind == "cache":
        run(_READERS["cache"][1].split())
        if not Path("cache.json").exists():
            Path("cache.json").write_text('{"onnxprune": "curves", "entries": {}}')
    names = {"plan": "plan.json", "recipe": "recipe.toml", "rules": "rules.toml"}
    path = Path(names.get(kind, "cache.json" if kind == "cache" else "weights.bin"))
    return _change(path, rng)


def _change(path: Path, rng: Random) -> str:
    """Change bytes or values of a file, or take it away."""
    what = rng.choice(["bytes", "values", "values", "values", "gone", "folder"])
    if what == "values" and path.suffix == ".json":
        path.write_text(fuzz_files.changed_json(path.read_text(), rng))
    elif what == "values" and path.suffix == ".toml":
        path.write_text(fuzz_files.changed_text(path.read_text(), rng))
    elif what in ("gone", "folder"):
        path.unlink()
        if what == "folder":
            path.mkdir()
    else:
        path.write_bytes(fuzz_files.damaged(path.read_bytes(), rng))
    return what


def onnx_tensor(array: object) -> bytes:
    """An array as a stored tensor."""
    from onnx import numpy_helper

    data: bytes = numpy_helper.from_array(array).SerializeToString()
    return data
