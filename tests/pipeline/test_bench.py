"""The command `bench`, and the reports of the benchmarks, which themselves take minutes."""

import json
import sys
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS
from paths import MODELS, TOOLS
from setting_values import by_size

import onnxprune
from onnxprune.cli import main
from onnxprune.errors import InputError
from onnxprune.ir import graph, runtime

sys.path.insert(0, str(TOOLS))
import bench_accuracy
import bench_latency
import bench_sparsity
import bench_trained

DIGITS = str(MODELS / "digits.onnx")
VALUES = {
    "case": "net",
    "target": "macs=0.5",
    "data": False,
    "dense": 0.93391,
    "required": 0.85,
    "ours": 0.9,
    "seconds": 12.3,
    "l2": {"top1": 0.5, "share": 0.4994},
    "wanda": {"error": "ValueError: no"},
}


def test_a_row_says_what_was_measured_and_what_failed():
    row = bench_accuracy.row_of(VALUES)
    assert row == (
        *("net (no data)", "macs=0.5", "93.39", "90.00", "85.0"),
        *("50.00 @ 0.499", "ValueError: no", "", "12"),
    )
    assert len(row) == len(bench_accuracy.HEADER)


@pytest.mark.parametrize("after", ["", "## Growth\n\nmore\n"])
def test_a_section_is_replaced_and_the_rest_stays(tmp_path, after):
    path = tmp_path / "results.md"
    path.write_text(f"# Results\n\n{bench_accuracy.HEADING}\n\nold\n\n{after}")
    bench_trained.write_section(path, "new\n", bench_accuracy.HEADING)
    once = path.read_text()
    assert once == f"# Results\n\n{bench_accuracy.HEADING}\n\nnew\n" + (after and f"\n{after}")
    bench_trained.write_section(path, "new\n", bench_accuracy.HEADING)
    assert path.read_text() == once


def test_a_section_is_added(tmp_path):
    path = tmp_path / "results.md"
    path.write_text("# Results\n")
    bench_trained.write_section(path, "new", bench_accuracy.HEADING)
    assert path.read_text() == f"# Results\n\n{bench_accuracy.HEADING}\n\nnew\n"


def test_a_row_of_single_weights():
    values = {"case": "net", "what": "2:4", "dense": 0.9, "required": 0.8, "ours": 0.85,
              "seconds": 3.2, "density": 0.5, "file_share": 1.0,
              "magnitude": {"top1": 0.4, "seconds": 1.6}}  # fmt: skip
    row = bench_sparsity.row_of(values)
    assert row == ("net", "2:4", "90.00", "85.00", "80.00", "0.500", "3", "40.00 (2 s)", "", "")
    assert len(row) == len(bench_sparsity.HEADER)
    failed = bench_sparsity.row_of({**values, "error": "no"})
    assert failed[3] == "no" and failed[5:7] == ("", "")


def test_a_row_of_latency_says_how_much_faster_than_plans_for_macs():
    values = {"case": "net", "target": 0.5, "most": 0.52, "least": 0.88, "macs": 0.4,
              "efficiency": 0.8, "seconds": 3.2, "ours": {"top1": 0.9, "latency": 0.5},
              "macs 1": {"top1": 0.95, "latency": 0.8}, "macs 2": {"top1": 0.92, "latency": 0.7},
              "macs 3": {"top1": 0.88, "latency": 0.5}}  # fmt: skip
    row = bench_latency.row_of(values)
    assert len(row) == len(bench_latency.HEADER)
    assert row[6:8] == ("0.600", "0.500") and row[9] == "1.20x"
    assert bench_latency.row_of({**values, "ours": {"top1": 0.7, "latency": 0.5}})[9] == ""


def test_bench(tmp_path: Path):
    numbers = tmp_path / "numbers.json"
    arguments = ["bench", DIGITS, DIGITS, "--profile", "--json", str(numbers)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "samples/s" in done.output
    values = json.loads(numbers.read_text())
    assert values["environment"]["provider"] == runtime.CPU
    for row in values["models"]:
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert row["operators"]
        assert row["samples_per_second"] == pytest.approx(1e3 / row["median_ms"])


def test_bench_draws(tmp_path: Path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "bench.png"
    done = CliRunner().invoke(main, ["bench", DIGITS, DIGITS, "--plot", str(picture)])
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bench_elsewhere(tmp_path: Path) -> None:
    """Times are a timer's; profile and memory are of this machine alone."""
    small = str(tmp_path / "small.onnx")
    onnx.save(NETWORKS["pooled_classifier"](), small)
    found = onnxprune.bench([DIGITS, small], timer=by_size)
    contents = [graph.model_bytes(onnx.load(path)) for path in (DIGITS, small)]
    times = [one.latency.median_ms / 1e3 for one in found.models]
    assert times == pytest.approx(by_size(contents, None, 1.0))
    assert [one.memory for one in found.models] == [None, None]
    assert found.environment["timer"] == "by_size" and "timer by_size" in found.text()
    with pytest.raises(InputError, match="leave profile or the timer out"):
        onnxprune.bench([small], timer=by_size, profile=True)
    done = CliRunner().invoke(main, ["bench", small, "--timer", "nobody's"])
    assert done.exit_code == 2 and "timer 'nobody's': no installed package" in done.output


def test_bench_refuses_what_is_not_there():
    done = CliRunner().invoke(main, ["bench", "nowhere.onnx"])
    assert done.exit_code == 2
    done = CliRunner().invoke(main, ["bench", DIGITS, "--provider", "tpu"])
    assert done.exit_code == 2
    assert "It has: " in done.output
