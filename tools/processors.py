"""Run decisive tests as on other processors, emulated by qemu-user, and print a table.

    python tools/processors.py                     this processor, AVX2 without VNNI, no AVX
    python tools/processors.py --only Haswell

Kernels of onnxruntime differ between processors: those for AVX2 without VNNI saturate sums of
products of bytes. An emulated processor is some 20 times slower, so only what depends on kernels
is run. Without qemu-user (Debian: `apt-get install qemu-user`) emulated rows are skipped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
QEMU = "qemu-x86_64"


class Processor(NamedTuple):
    """A processor by qemu's name, None: this one; what sets it apart."""

    name: str | None
    about: str


PROCESSORS = (
    Processor(None, "this one"),
    Processor("Haswell", "AVX2, neither VNNI nor AVX-512"),
    Processor("Nehalem", "SSE4.2, no AVX"),
)
#: Integers on their way through every form, the proof on them, and a network of reals.
TESTS = (
    "tests/ir/test_exact_products.py",
    "tests/pipeline/test_saturation.py::test_outputs_move_only_where_the_processor_saturates",
    "tests/end_to_end/test_quantized.py::test_dynamic_models[pooled_classifier-channel]",
    "tests/end_to_end/test_quantized.py::test_dynamic_models[mlp-channel]",
    "tests/end_to_end/test_quantized.py::test_calibrated_models[mlp-QOperator-channel]",
    "tests/end_to_end/test_quantized.py::test_calibrated_models[squeeze_and_excite-QDQ-tensor]",
    "onnxprune/ops/quantized_products_test.py",
)
#: Quantise the demonstration model with all eight bits, and as `quantise` does; not emulated.
QUANTISE = """
import sys
import numpy, onnx
from onnxprune.calibration.samples import calibration
from onnxprune.ir import load
from onnxprune.ir.inputs import batches, load_data
from onnxprune.pipeline.quantize import Quantization, quantize
model, folder = load.load("models/digits.onnx"), sys.argv[1]
data = calibration("models/digits_calib.npz", model)
for full in (True, False):
    made = quantize(model, Quantization("static", full_range=full), data)
    onnx.save(made, f"{folder}/{full}.onnx")
feeds, labels = next(batches(load_data("models/digits_test.npz", model), model))
numpy.savez(f"{folder}/test.npz", labels=labels, **feeds)
"""
#: Whether the processor saturates, and what that makes of both.
MEASURE = """
import sys
import numpy, onnx
from onnxprune.ir import exact_products, runtime
from onnxprune.pipeline.saturation import moved
cells = ["saturates" if exact_products.saturates() else "exact"]
feeds = dict(numpy.load(f"{sys.argv[1]}/test.npz"))
labels = feeds.pop("labels")
for full in (True, False):
    made = onnx.load(f"{sys.argv[1]}/{full}.onnx")
    session = runtime.open_session(made.SerializeToString(), runtime.Device())
    (scores,) = runtime.run(session, feeds).values()
    share = moved(made, feeds, runtime.Device())
    cells.append(f"{share:.2%}, {(scores.argmax(1) == labels).mean():.1%}")
print(" | ".join(cells))
"""


def command(processor: Processor) -> list[str] | None:
    """How Python is started on a processor; None where it cannot be."""
    if processor.name is None:
        return [sys.executable]
    qemu = shutil.which(QEMU)
    return None if qemu is None else [qemu, "-cpu", processor.name, sys.executable]


def run(python: Sequence[str], words: Sequence[str], limit: int) -> tuple[bool, str]:
    """Run Python: whether it went well, and the last line it printed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            [*python, *words], capture_output=True, text=True, cwd=ROOT, env=env, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return False, f"stopped after {limit} s"
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            print(line, file=sys.stderr, flush=True)
    errors = [line for line in done.stderr.splitlines() if "TCG doesn't support" not in line]
    return done.returncode == 0, (lines or errors or ["nothing printed"])[-1].strip("= ")


def main() -> int:
    """Print the table; 1 if a test failed on a processor that could be had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="one processor by qemu's name, or `this`")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="tests in place of these")
    parser.add_argument("--limit", type=int, default=3600, help="seconds for the tests of a row")
    given = parser.parse_args()
    head = ("processor", "what it has", "sums of pairs", "8 bits: moves, top-1",
            "quantise: moves, top-1", "tests", "seconds")  # fmt: skip
    print("| " + " | ".join(head) + " |\n" + "| --- " * len(head) + "|", flush=True)
    bad = False
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        run([sys.executable], ["-c", QUANTISE, cache], given.limit)
        for processor in PROCESSORS:
            name = processor.name or "this"
            if given.only not in (None, name):
                continue
            python, begin = command(processor), perf_counter()
            if python is None:
                print(f"| {name} | {processor.about} | skipped: {QEMU} is not installed |")
                continue
            well, measured = run(python, ["-c", MEASURE, cache], given.limit)
            words = ["-m", "pytest", "-p", "no:cacheprovider", *given.tests]
            passed, result = run(python, words, given.limit)
            bad |= not (well and passed)
            spent = f"{perf_counter() - begin:.0f}"
            print("| " + " | ".join((name, processor.about, measured, result, spent)) + " |")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
