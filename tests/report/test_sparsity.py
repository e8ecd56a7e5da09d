"""What making a model sparse did, as values, JSON and text."""

import json
from typing import Any

from onnxprune.ir.timing import Latency
from onnxprune.report.sparsity import SPEED, SparseReport, layers_text
from onnxprune.report.values import Fidelity
from onnxprune.sparsity.density import LayerDensity, Sizes

ROWS = [
    LayerDensity("w1", "Conv", (8, 4, 1, 1), 16, 0.5, ("2:4",), "", "few channels"),
    LayerDensity("w2", "Gemm", (2, 8), 4, 0.25, (), "two outputs"),
]
TIMES = Latency(2.0, 1.9, 2.1, 11), Latency(2.1, 2.0, 2.2, 11)


def report(**changes: Any) -> SparseReport:
    values: dict[str, Any] = {
        "asked": {"sparsity": 0.6, "scope": "global"},
        "layers": ROWS,
        "skipped": {"w3": "excluded", "w4": "too few", "w5": "excluded"},
        "sizes": (Sizes(1000, 900, 880), Sizes(1000, 500, 480)),
        "fidelity": Fidelity(0.99, 20.0, 0.95, 64, "the samples", (0.9, 0.89)),
        "latency": TIMES,
        "updated": True,
        "environment": {"threads": 1},
        "notes": ["a note"],
    }
    return SparseReport(**(values | changes))


def test_density_counts_every_number_once() -> None:
    """16 of 32 and 4 of 16 numbers are not zero."""
    assert report().density == 20 / 48
    assert report(layers=[]).density == 0


def test_the_text_says_sizes_times_density_and_what_was_left_out() -> None:
    assert report().text().splitlines() == [
        "         before   after   ratio",
        "file       1 kB    1 kB   1.000",
        "zip       900 B   500 B   0.556",
        "zstd      880 B   480 B   0.545",
        "latency    2 ms  2.1 ms   1.050",
        "top-1    90.00%  89.00%  -1.00%",
        "asked     sparsity 0.6, scope global",
        "density   0.4167 of 48 numbers in 2 weights",
        "kept      weights that stay are moved to make up for them",
        "drift     cosine 0.9900, top-1 agreement 95.0% (64 samples, the samples)",
        "skipped   2 weights: excluded",
        "skipped   1 weight: too few",
        "note      a note",
    ]


def test_what_is_not_known_is_not_in_the_text() -> None:
    sizes = Sizes(1000, 900, None), Sizes(1000, 500, None)
    text = report(sizes=sizes, latency=None, fidelity=None, updated=False, skipped={}).text()
    for word in ("zstd", "latency", "top-1", "drift", "skipped", "score"):
        assert word not in text
    assert "weights that stay are bit-identical" in text
    scored = report(evaluation={"before": 0.9, "after": 0.8, "function": "f"}).text()
    assert "score     0.9 before, 0.8 after (f)" in scored


def test_values_are_ready_for_json() -> None:
    again = json.loads(json.dumps(report().values()))
    assert again["density"] == report()["density"] == 20 / 48
    assert [row["name"] for row in again["layers"]] == ["w1", "w2"]
    assert again["before"]["zip"] == 900 and again["after"]["latency"]["median_ms"] == 2.1
    assert report(latency=None)["after"]["latency"] is None


def test_one_line_for_each_weight_says_what_tensorrt_makes_of_it() -> None:
    lines = layers_text(ROWS).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["weight", "operator", "shape", "density", "patterns", "TensorRT"],
        ["w1", "Conv", "8x4x1x1", "0.5000", "2:4", "yes,", "but", "few", "channels"],
        ["w2", "Gemm", "2x8", "0.2500", "-", "two", "outputs"],
    ]
    assert lines[3] == f"density 0.4167 of 48 numbers; {SPEED}"
