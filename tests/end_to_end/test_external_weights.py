"""Models with external weights: pruned as others are, outside of memory, in files of their own."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from external import bare, external, external_digits, hidden, plain, small_files
from networks import NETWORKS, Net
from oracle import check_model
from paths import MODELS, TOOLS

import onnxprune
from onnxprune import InputError, ProofError, ops
from onnxprune.cli import main
from onnxprune.ir import graph, segmented_run, tensors
from onnxprune.ir.load import Source
from onnxprune.ops.registry import same_but
from onnxprune.pipeline import compare

NAMES = ("residual_spine", "shared_zero_bias", "tied_convolutions", "captured_by_branches")


def prune(source: Source, target: dict[str, Any], **changes: Any) -> onnxprune.Result:
    return onnxprune.prune(source, target, latency=False, **changes)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return external_digits(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_result_does_not_depend_on_where_weights_lie(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does it on the current folder, which is another one."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    model = NETWORKS[name]()
    path = external(model, tmp_path / "in.onnx")
    inside, outside = prune(model, {"ratio": 0.6}), prune(path, {"ratio": 0.6})
    assert outside.plan.keep.keys() == inside.plan.keep.keys()
    assert plain(outside.model) == plain(inside.model)
    out = tmp_path / "out.onnx"
    written = outside.save(out)
    assert written == [out, tmp_path / "out.onnx.data"][: len(written)]
    assert plain(onnx.load(out)) == plain(inside.model)
    onnx.checker.check_model(out, full_check=True)
    onnxruntime.InferenceSession(out)


def test_bytes_and_size_targets_count_the_data_file(digits: Path) -> None:
    out = digits.with_name("model.onnx")
    result = prune(digits, {"size": "200 KB"})
    total = sum(file.stat().st_size for file in result.save(out))
    assert total == result.report.after.bytes <= 200_000
    before = digits.stat().st_size + digits.with_name("weights.bin").stat().st_size
    assert result.report.before.bytes == pytest.approx(before, rel=0.01)  # other offsets and names


def test_lossless_and_plans(digits: Path, tmp_path: Path) -> None:
    model = onnx.load(digits)
    for tensor in model.graph.initializer:
        if tensor.name in ("stage1.0.expand.weight", "stage1.0.expand.bias"):
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[::2] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    external(model, digits)
    result = prune(digits, {"macs": 0.7}, lossless=True)
    assert plain(result.model) == plain(prune(model, {"macs": 0.7}, lossless=True).model)
    plan = tmp_path / "plan.json"
    plan.write_text(prune(digits, {"macs": 0.7}).plan_json)
    again = onnxprune.apply(digits, plan, latency=False)
    assert not any("another file" in note for note in again.report.notes)
    data = digits.with_name("weights.bin")
    content = bytearray(data.read_bytes())
    content[-1] ^= 1  # same model file, another weight
    data.write_bytes(content)
    other = onnxprune.apply(digits, plan, latency=False)
    assert any("another file" in note for note in other.report.notes)


def test_latency_and_check(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large models are timed by check only, which lets onnxruntime open the files."""
    result = onnxprune.prune(digits, {"macs": 0.7})
    assert result.report.after.latency is not None
    result.save(tmp_path / "out.onnx")
    monkeypatch.setattr(compare, "TIMED", 0)
    monkeypatch.setattr(graph, "LARGE", 10_000)
    data = MODELS / "digits_test.npz"
    large = onnxprune.prune(digits, {"macs": 0.7}, data=data)
    assert large.report.after.latency is None
    assert any("latency was not measured" in note for note in large.report.notes)
    assert large.report.before.accuracy == pytest.approx(0.996)
    checked = onnxprune.check(digits, tmp_path / "out.onnx")
    assert checked.latency_ratio is not None
    untimed = onnxprune.check(digits, tmp_path / "out.onnx", latency=False)
    assert untimed.drop == pytest.approx(checked.drop, abs=1e-6)  # float32 in another order


def test_scratch_files_go(digits: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = prune(digits, {"macs": 0.7}, scratch=scratch)
    assert len(hidden(scratch)) == 1
    model = result.model
    del result
    gc.collect()
    assert hidden(scratch) == []
    onnx.checker.check_model(model, full_check=True)


def test_scratch_files_of_failed_attempts_go(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setitem(ops.COUPLINGS, "Softmax", lambda n: same_but((), n.inputs[0], n.outputs[0]))
    n = Net(x=("N", 3, 8, 8))
    y = n.op("Softmax", n.relu(n.conv("x", 3, 8)), axis=1)
    model = n.model(n.conv(n.conv(y, 8, 12, group=4), 12, 4))
    with pytest.raises(ProofError):
        prune(external(model, tmp_path / "m.onnx"), {"ratio": 0.3}, scratch=scratch)
    gc.collect()
    assert hidden(scratch) == []


def test_a_full_disk_leaves_no_scratch_files(digits: Path) -> None:
    with small_files(50_000), pytest.raises(InputError, match=r"the cut weights cannot be kept"):
        prune(digits, {"macs": 0.7}, scratch=digits.parent)
    gc.collect()
    assert hidden(digits.parent) == []


def command(*words: object) -> str:
    """What a command that must fail with code 2 says in its one line."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2 and result.output.count("\n") == 1, result.output
    return result.output


def test_data_that_cannot_be_read_are_refused_in_one_line(tmp_path: Path) -> None:
    path, out = external(NETWORKS["chain"](), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    out.write_text("precious")
    (tmp_path / "weights.bin").unlink()
    for words in (["prune", path, out, "--target", "ratio=0.5"], ["inspect", path]):
        text = command(*words)
        assert text.startswith("Error: tensor 'c0'") and "which is missing from" in text
    assert out.read_text() == "precious" and hidden(tmp_path) == []


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    path = external(NETWORKS["chain"](), tmp_path / "in.onnx", "out.onnx.data")
    before, out = (tmp_path / "out.onnx.data").read_bytes(), tmp_path / "out.onnx"
    text = command("prune", path, out, "--target", "ratio=0.6", "--no-latency")
    assert f"where weights of {path} lie" in text
    assert (tmp_path / "out.onnx.data").read_bytes() == before and not out.exists()
    source = tmp_path / "w.onnx.data"
    source.write_bytes((MODELS / "digits.onnx").read_bytes())
    text = command("prune", source, tmp_path / "w.onnx", "--target", "macs=1")
    assert "is the input itself" in text


def test_writing_over_the_source_is_safe(digits: Path, tmp_path: Path) -> None:
    """The weights that were not cut are still read from the source's data file."""
    result = prune(digits, {"macs": 0.7})
    expected = plain(result.model)
    result.save(digits)
    assert plain(onnx.load(digits)) == expected
    result.save(tmp_path / "again.onnx")
    assert plain(onnx.load(tmp_path / "again.onnx")) == expected


def test_the_command_line(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    words = ["prune", str(digits), str(out), "--target", "macs=0.7", "--no-latency"]
    text = CliRunner().invoke(main, words).output
    assert text.endswith(f"wrote     {out} and {out}.data\n")
    gc.collect()
    assert hidden(tmp_path) == []
    inline = str(MODELS / "digits.onnx")
    CliRunner().invoke(main, ["prune", inline, *words[2:]])
    one = onnx.load(out, load_external_data=False)
    assert not any(map(tensors.is_external, one.graph.initializer))
    CliRunner().invoke(main, ["prune", inline, *words[2:], "--external-data"])
    assert any(map(tensors.is_external, bare(out).graph.initializer))
    assert plain(onnx.load(out)) == plain(one)


@pytest.mark.parametrize("name", NETWORKS)
def test_proofs_in_segments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operator with weights runs on its own; all proofs hold as in one piece."""
    monkeypatch.setattr(graph, "LARGE", 0)
    counts = list[int]()
    split = segmented_run.split

    def counted(*args: Any) -> list[segmented_run.Segment]:
        segments = split(*args)
        counts.append(len(segments))
        return segments

    monkeypatch.setattr(segmented_run, "split", counted)
    check_model(NETWORKS[name](), plans=2)
    assert max(counts) > 1


def test_segments_find_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LARGE", 0)
    monkeypatch.setitem(ops.COUPLINGS, "Softmax", lambda n: same_but((), n.inputs[0], n.outputs[0]))
    n = Net(x=("N", 3, 8, 8))
    y = n.op("Softmax", n.relu(n.conv("x", 3, 8)), axis=1)
    with pytest.raises(ProofError):
        prune(n.model(n.conv(y, 8, 4)), {"ratio": 0.5})


MEMORY = """
import resource, sys
import onnxprune
from onnxprune.ir import graph
graph.LARGE = 4_000_000
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
options = dict(target={"macs": 0.5}, latency=False)
onnxprune.prune(sys.argv[1], **options)
before = peak()
onnxprune.prune(sys.argv[2], **options).save(sys.argv[3])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is counted otherwise elsewhere")
def test_weights_are_never_all_in_memory(tmp_path: Path) -> None:
    """Beyond what any model costs, pruning takes far less memory than the weights."""
    file, out = tmp_path / "large.onnx", tmp_path / "out.onnx"
    build: list[str | Path] = [sys.executable, TOOLS / "bench_models.py", "build", "large", file]
    subprocess.run([*build, "--gigabytes", "0.1", "--width", "512"], check=True)
    weights = (tmp_path / "large.onnx.weights").stat().st_size
    words: list[str | Path] = [sys.executable, "-c", MEMORY, MODELS / "digits.onnx", file, out]
    done = subprocess.run(words, check=True, capture_output=True)
    assert int(done.stdout) < 0.7 * weights
    assert (tmp_path / "out.onnx.data").stat().st_size < 0.6 * weights
