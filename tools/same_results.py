"""Record what the command line gives for fixed models, settings and seeds, and compare two records.

    python tools/same_results.py record before.json            # with the installed package
    git switch other-branch && python tools/same_results.py record after.json
    python tools/same_results.py compare before.json after.json
    python tools/same_results.py record some.json 'digits|lstm'  # only cases that match
    python tools/same_results.py repeat 'digits|lstm'            # other threads, under load

A record holds, per case, the exit code, a digest of the written model, the plan and the report
without times. Two trees that give the same record behave the same on these cases. Results
are compared on one machine: kernels of another processor may round in another way.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

#: A process that only takes time.
SPIN = "while True: pass"
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
#: Networks of the tests, one for each kind of structure.
SMALL = (
    "batch_normalised residual_spine inverted_residual dense_concat channel_shuffle "
    "squeeze_and_excite grouped_convolutions constant_nodes_as_weights lstm vision_transformer "
    "llama tied_embedding captured_by_branches transposed_convolutions"
).split()
REAL = ("resnet8_cifar10", "dscnn_kws", "bert_tiny3_sst2", "ppocr_cls")
UNLABELLED = ("face_rfb320", "fastestdet")
#: Parts of a report that say when, where or how fast, not what.
VOLATILE = {"seconds", "environment", "latency", "latency_ms", "scratch", "onnxprune", "finished"}

RECIPE = """
calib = "{calib}"
[[stage]]
kind = "prune"
target = {{ macs = 0.7 }}
distill = false
[[stage]]
kind = "sparsify"
pattern = "2:4"
distill = false
[[stage]]
kind = "quantise"
mode = "dynamic"
"""


def cases(folder: Path) -> Iterator[tuple[str, str]]:
    """Pairs of name and command; `{out}` stands for the files that the command may write."""
    digits, calib = ROOT / "models/digits.onnx", ROOT / "models/digits_calib.npz"
    (folder / "recipe.toml").write_text(RECIPE.format(calib=calib))
    data = f"--calib {calib} --calib-samples 64"
    write = "{out}.onnx --no-latency --plan {out}.plan --report {out}.json"
    sparse = "{out}.onnx --no-latency --report {out}.json"
    for name, how in {
        "free": "--target macs=0.5",
        "l1": "--target macs=0.6 --importance l1 --no-compensate",
        "fpgm layer": "--target params=0.7 --importance fpgm --scope layer --round-to 8",
        "size": "--target size=0.7",
        "lossless": "--lossless",
        "calibrated": f"--target macs=0.5 {data} --no-distill",
        "steps": f"--target macs=0.5 {data} --no-distill --steps 2",
        "cached": f"--target macs=0.6 {data} --no-distill --cache {{out}}.cache",
        "distilled": f"--target macs=0.6 {data} --distill-rounds 2",
        "wanda": f"--target macs=0.6 {data} --importance wanda --no-compensate",
        "blocks": f"--target blocks=1 {data} --no-distill",
        "random": "--target macs=0.7 --calib random --calib-samples 16 --no-distill",
        "unreachable": "--target macs=0.0001",
    }.items():
        yield f"digits {name}", f"prune {digits} {write} {how}"
    for name, how in {
        "half": "--sparsity 0.5",
        "erk": "--sparsity 0.8 --scope erk",
        "2:4": f"--pattern 2:4 {data} --no-distill",
        "wanda": f"--sparsity 0.6 --criterion wanda {data} --no-distill",
        "obs": f"--sparsity 0.6 {data} --no-distill",
        "steps": f"--sparsity 0.7 {data} --distill-rounds 1 --steps 2",
    }.items():
        yield f"digits sparsify {name}", f"sparsify {digits} {sparse} {how}"
    yield "digits recipe", f"run {folder / 'recipe.toml'} {digits} {sparse}"
    yield "digits table", f"sensitivity {digits} {data} --json {{out}}.json"
    yield "digits inspect", f"inspect {digits} --json"
    for path in sorted(folder.glob("small_*.onnx")):
        name = path.stem.removeprefix("small_")
        yield f"{name} inspect", f"inspect {path} --json"
        yield f"{name} free", f"prune {path} {write} --target macs=0.6"
        random = "--calib random --calib-samples 16"
        yield f"{name} calibrated", f"prune {path} {write} --target macs=0.7 {random} --no-distill"
        yield f"{name} sparsify", f"sparsify {path} {sparse} --pattern 2:4 {random} --no-distill"
    yield from _real(folder, write, sparse)


def _real(folder: Path, write: str, sparse: str) -> Iterator[tuple[str, str]]:
    for name in (*REAL, *UNLABELLED):
        model = SHARED / "models" / f"{name}.onnx"
        if not model.exists():
            continue
        calib, count = folder / f"{name}.npz", 96
        if name in REAL:
            command = [sys.executable, str(SHARED / "cases.py"), name, str(calib), str(count)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        data = f"--calib {calib if calib.exists() else 'random'} --calib-samples "
        data += "8" if name in UNLABELLED else str(count)
        yield f"{name} free", f"prune {model} {write} --target macs=0.6"
        yield f"{name} calibrated", f"prune {model} {write} --target macs=0.6 {data} --no-distill"
        if name in REAL:
            how = f"--target macs=0.7 {data} --distill-rounds 1"
            yield f"{name} distilled", f"prune {model} {write} {how}"
            yield (
                f"{name} sparsify",
                f"sparsify {model} {sparse} --sparsity 0.5 {data} --no-distill",
            )


def networks(folder: Path) -> None:
    """Write the small networks of the tests."""
    support = [str(p.parent) for p in (ROOT / "tests").rglob("networks.py")]
    sys.path[:0] = support
    import onnx
    import operator_networks  # noqa: F401  each adds its networks to the table
    import transformer_networks  # noqa: F401
    from networks import NETWORKS

    for name in SMALL:
        onnx.save(NETWORKS[name](), folder / f"small_{name}.onnx")


def plain(value: Any, folder: str) -> Any:
    """A report without times, versions and names of temporary files."""
    if isinstance(value, dict):
        return {k: plain(v, folder) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list):
        return [plain(v, folder) for v in value]
    return value.replace(folder, "") if isinstance(value, str) else value


class Variant(NamedTuple):
    """How a command is run: numpy's threads, onnxruntime's, and processes that compete with it."""

    name: str
    numpy: int = 1
    onnxruntime: int = 0
    load: int = 0


USUAL = Variant("usual")
#: What must give the same bytes.
VARIANTS = (
    Variant("1 thread", 1, 1),
    Variant("2 threads", 2, 2),
    Variant("4 threads", 4, 4),
    Variant("under load", 2, 0, 2 * (os.cpu_count() or 1)),
)
#: Onnxruntime takes all cores where a command says nothing; here as many as it is told.
START = """
import sys, onnxruntime
threads = int(sys.argv.pop(1))
class Options(onnxruntime.SessionOptions):
    def __setattr__(self, name, value):
        if name == "intra_op_num_threads" and value == 0:
            value = threads
        super().__setattr__(name, value)
onnxruntime.SessionOptions = Options
from onnxprune.cli import main
sys.argv[0] = "onnxprune"
main()
"""


def made(command: str, out: Path, how: Variant = USUAL) -> dict[str, Any]:
    """What one command gives."""
    start = ["-c", START, str(how.onnxruntime)] if how.onnxruntime else ["-m", "onnxprune"]
    line = [sys.executable, *start, *shlex.split(command.replace("{out}", str(out)))]
    threads = str(how.numpy)
    env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=900)
    result: dict[str, Any] = {"exit": done.returncode}
    model, plan, report = (out.with_suffix(s) for s in (".onnx", ".plan", ".json"))
    if done.returncode:
        result["error"] = done.stderr.replace(str(out.parent), "").splitlines()[-1:]
    if model.exists():
        result["model"] = hashlib.sha256(model.read_bytes()).hexdigest()
    if plan.exists():
        result["plan"] = json.loads(plan.read_text())
        result["plan"].pop("onnxprune", None)
    text = report.read_text() if report.exists() else done.stdout
    if report.exists() or text.startswith(("{", "[")):
        result["report"] = plain(json.loads(text), str(out.parent))
    return result


def selected(only: str) -> Iterator[tuple[Path, int, str, str]]:
    """Give every case whose name matches: a folder that all share, its number, name and command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = name
        networks(folder)
        for number, (case, command) in enumerate(cases(folder)):
            if re.search(only, case):
                yield folder, number, case, command


def record(path: Path, only: str = "") -> None:
    """Run every case whose name matches and write what they give."""
    found: dict[str, Any] = {}
    for folder, number, case, command in selected(only):
        begin = perf_counter()
        text = json.dumps(made(command, folder / f"case{number}"))
        for place in (folder, ROOT, SHARED):  # names of temporary files may stand inside messages
            text = text.replace(str(place), "")
        found[case] = json.loads(re.sub(r"case\d+", "case", text))
        print(f"{case:40} exit {found[case]['exit']} {perf_counter() - begin:6.1f} s", flush=True)
        path.write_text(json.dumps(found, indent=1, sort_keys=True))


def repeat(only: str = "") -> int:
    """Run every case whose name matches in all variants; 1 if one gives something else."""
    other = 0
    for folder, number, case, command in selected(only):
        found = [_digest(folder, number, command, how) for how in (USUAL, *VARIANTS)]
        pairs = zip(VARIANTS, found[1:], strict=True)
        changed = [how.name for how, digest in pairs if digest != found[0]]
        other += bool(changed)
        print(f"{case:40} {found[0]} {', '.join(changed) or 'the same'}", flush=True)
    print(f"{other} cases depend on threads or load")
    return int(bool(other))


def _digest(folder: Path, number: int, command: str, how: Variant) -> str:
    """Run a case in one variant; the digest of all that it gives."""
    busy = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(how.load)]
    place = folder / how.name.replace(" ", "_")
    place.mkdir(exist_ok=True)
    try:
        result = made(command, place / f"case{number}", how)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    text = json.dumps(result, sort_keys=True).replace(str(place), "")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(a: Any, b: Any, at: str = "") -> Iterator[str]:
    """Places where two records differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from differences(a.get(key), b.get(key), f"{at}/{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for k, pair in enumerate(zip(a, b, strict=True)):
            yield from differences(*pair, f"{at}/{k}")
    elif a != b:
        yield f"{at}: {str(a)[:200]} | {str(b)[:200]}"


def compare(first: Path, second: Path) -> int:
    """Print what differs; 1 if anything does."""
    a, b = (json.loads(path.read_text()) for path in (first, second))
    other = 0
    both = sorted(a.keys() & b.keys())
    for case in both:
        found = list(differences(a.get(case), b.get(case)))
        other += bool(found)
        if found:
            print(f"{case}: {len(found)} differences")
            print("\n".join(f"  {line}" for line in found[:6]))
    print(f"{len(both)} cases, {other} differ; {len(a.keys() ^ b.keys())} stand in one record only")
    return int(bool(other))


if __name__ == "__main__":
    verb, *files = sys.argv[1:]
    if verb == "repeat":
        sys.exit(repeat(*files))
    if verb == "compare":
        sys.exit(compare(Path(files[0]), Path(files[1])))
    record(Path(files[0]), *files[1:])
