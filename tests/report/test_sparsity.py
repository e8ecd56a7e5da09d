"""The report of a sparse model, as text and as values for JSON."""

import json

import pytest

from onnxprune.ir.timing import Latency
from onnxprune.report.parts import plain
from onnxprune.report.sparsity import SPEED, SparseReport, layer_parts
from onnxprune.report.values import Fidelity
from onnxprune.sparsity.density import LayerDensity, Sizes


@pytest.fixture
def report() -> SparseReport:
    layers = [
        LayerDensity("w", "Conv", (4, 25), 30, 0.3, ("2:4",), "", "rarely chosen"),
        LayerDensity("v", "Gemm", (10, 10), 70, 0.7, (), "not 2:4", ""),
    ]
    fast = Latency(median_ms=2.0, p10_ms=1.9, p90_ms=2.1, runs=10)
    return SparseReport(
        asked={"sparsity": 0.5},
        layers=layers,
        skipped={"a": "excluded by the user", "b": "excluded by the user"},
        sizes=(Sizes(file=1000, zip=900, zstd=None), Sizes(file=1000, zip=450, zstd=None)),
        fidelity=Fidelity(0.99, 20.0, 0.9, 50, "the given data", (0.9, 0.88)),
        latency=(fast, fast),
        updated=True,
        environment={},
        notes=[SPEED],
        evaluation={"function": "f", "before": 1.0, "after": 0.5},
    )


def test_density_is_that_of_all_numbers(report: SparseReport):
    assert report.density == 0.5 and report["density"] == 0.5
    values = json.loads(json.dumps(report.values()))
    assert values["after"]["zip"] == 450 and values["fidelity"]["samples"] == 50


def test_all_lines(report: SparseReport):
    lines = [" ".join(line.split()) for line in report.text().splitlines()]
    assert lines == [
        "before after ratio",
        "file 1 kB 1 kB 1.000",
        "zip 900 B 450 B 0.500",
        "latency 2 ms 2 ms 1.000",
        "top-1 90.00% 88.00% -2.00%",
        "asked sparsity 0.5",
        "density 0.5000 of 200 numbers in 2 weights",
        "kept weights that stay are moved to make up for them",
        "drift cosine 0.9900, top-1 agreement 90.0% (50 samples, the given data)",
        "score 1 before, 0.5 after (f)",
        "skipped 2 weights: excluded by the user",
        f"note {SPEED}",
    ]


def test_layers(report: SparseReport):
    lines = plain(layer_parts(report.layers)).splitlines()
    assert lines[1].split() == "w Conv 4x25 0.3000 2:4 yes, but rarely chosen".split()
    assert lines[2].split() == "v Gemm 10x10 0.7000 - not 2:4".split()
    assert lines[3].startswith("density 0.5000 of 200 numbers")
