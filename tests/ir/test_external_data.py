"""Weights in external files: read safely, cut outside of memory, written whole or not at all."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from networks import NETWORKS
from oracle import check_model
from paths import ROOT

import onnxprune
from onnxprune import InputError, ProofError, ops
from onnxprune.cli import main
from onnxprune.groups.analysis import load
from onnxprune.ir import graph, runtime, save, segmented_run, tensors
from onnxprune.ops.registry import same_but
from onnxprune.pipeline import compare

NAMES = ("residual_spine", "shared_zero_bias", "tied_convolutions", "captured_by_branches")


def prune(source: object, target: dict | None = None, **changes: object) -> onnxprune.Result:
    return onnxprune.prune(source, target, **{"latency": False, **changes})


def external(model: onnx.ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """The model at `path`, every tensor of it in a file beside it; `model` stays as it is."""
    same = onnx.ModelProto()
    same.CopyFrom(model)
    (path.parent / location).unlink(missing_ok=True)
    onnx.save(same, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def bare(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)


def plain(model: onnx.ModelProto) -> bytes:
    """The model's bytes, however its weights are stored."""
    same = onnx.ModelProto()
    same.CopyFrom(model)
    for tensor in same.graph.initializer:
        values = tensors.array(tensor)
        head = tensors.head(tensor)
        head.dims.extend(values.shape)
        head.raw_data = values.tobytes()
        tensor.CopyFrom(head)
    return graph.model_bytes(same)


def hidden(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return external(onnx.load(ROOT / "models" / "digits.onnx"), tmp_path / "in.onnx")


@pytest.mark.parametrize("name", NAMES)
def test_the_result_does_not_depend_on_where_weights_lie(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
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


def test_the_layout_of_the_data_file(tmp_path: Path):
    model = NETWORKS["chain"]()
    large = onnx.numpy_helper.from_array(np.ones((600, 512), np.float32), "large")
    model.graph.initializer.insert(1, large)
    path = tmp_path / "model.onnx"
    result = prune(model, {"ratio": 1.0})
    assert result.save(path, external_data=True) == [path, tmp_path / "model.onnx.data"]
    places = []
    for tensor in bare(path).graph.initializer:
        assert tensors.is_external(tensor) == (tensors.tensor_bytes(tensor) >= save.OUTSIDE)
        if tensors.is_external(tensor):
            places.append(tensors.extent(tensor))
            assert places[-1].offset % (4096 if tensor.name == "large" else 64) == 0
    assert {place.path for place in places} == {"model.onnx.data"}
    ends = [place.offset + place.length for place in places]
    assert all(a <= b.offset for a, b in zip(ends, places[1:], strict=False))
    assert ends[-1] == (tmp_path / "model.onnx.data").stat().st_size
    assert plain(onnx.load(path)) == plain(model)


def test_bytes_and_size_targets_count_the_data_file(digits: Path):
    out = digits.with_name("model.onnx")
    result = prune(digits, {"size": "200 KB"})
    total = sum(file.stat().st_size for file in result.save(out))
    assert total == result.report.after.bytes <= 200_000
    before = digits.stat().st_size + digits.with_name("weights.bin").stat().st_size
    assert result.report.before.bytes == pytest.approx(before, rel=0.01)  # other offsets and names


def test_lossless_and_plans(digits: Path, tmp_path: Path):
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


def test_latency_and_check(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Large models are timed by check only, which lets onnxruntime open the files."""
    result = onnxprune.prune(digits, {"macs": 0.7})
    assert result.report.after.latency is not None
    result.save(tmp_path / "out.onnx")
    monkeypatch.setattr(compare, "TIMED", 0)
    monkeypatch.setattr(graph, "LARGE", 10_000)
    data = ROOT / "models" / "digits_test.npz"
    large = onnxprune.prune(digits, {"macs": 0.7}, data=data)
    assert large.report.after.latency is None
    assert any("latency was not measured" in note for note in large.report.notes)
    assert large.report.before.accuracy == pytest.approx(0.996)
    checked = onnxprune.check(digits, tmp_path / "out.onnx")
    assert checked.latency_ratio is not None
    untimed = onnxprune.check(digits, tmp_path / "out.onnx", latency=False)
    assert untimed.drop == pytest.approx(checked.drop, abs=1e-6)  # float32 in another order


def test_scratch_files_go(digits: Path, tmp_path: Path):
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
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    from networks import Net

    monkeypatch.setitem(ops.COUPLINGS, "Softmax", lambda n: same_but((), n.inputs[0], n.outputs[0]))
    n = Net(x=("N", 3, 8, 8))
    y = n.op("Softmax", n.relu(n.conv("x", 3, 8)), axis=1)
    model = n.model(n.conv(n.conv(y, 8, 12, group=4), 12, 4))
    with pytest.raises(ProofError):
        prune(external(model, tmp_path / "m.onnx"), {"ratio": 0.3}, scratch=scratch)
    gc.collect()
    assert hidden(scratch) == []


# --- what is read


def entry(tensor: onnx.TensorProto, key: str, value: object) -> None:
    found = [e for e in tensor.external_data if e.key == key]
    (found or [tensor.external_data.add(key=key)])[0].value = str(value)


def changed(key: str, value: object) -> Callable[[Path], None]:
    """A model whose first tensor says something else of its external data."""

    def change(path: Path) -> None:
        model = bare(path)
        entry(model.graph.initializer[0], key, value)
        onnx.save(model, path)

    return change


def link(path: Path) -> None:
    outside = path.parent.parent / "outside.bin"
    (path.parent / "weights.bin").rename(outside)
    (path.parent / "weights.bin").symlink_to(outside)


def pipe(path: Path) -> None:
    (path.parent / "weights.bin").unlink()
    os.mkfifo(path.parent / "weights.bin")


def truncate(path: Path) -> None:
    os.truncate(path.parent / "weights.bin", 100)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (lambda p: (p.parent / "weights.bin").unlink(), "which is missing from"),
    "truncated": (truncate, "which has 100. The file is truncated"),
    "length": (changed("length", 12), "external data are 12 bytes long"),
    "not a number": (changed("length", "many"), "are no numbers"),
    "offset": (changed("offset", -4), "bytes at -4 of"),
    "beyond": (changed("offset", 10**9), "bytes at 1000000000 of"),
    "parent": (changed("location", "../outside.bin"), "leaves the model's folder"),
    "hidden parent": (changed("location", "a/../../outside.bin"), "leaves the model's folder"),
    "inside parent": (changed("location", "a/../weights.bin"), "leaves the model's folder"),
    "backslashes": (changed("location", "..\\outside.bin"), "leaves the model's folder"),
    "absolute": (changed("location", "/etc/hostname"), "only files in the model's folder"),
    "drive": (changed("location", "C:\\weights.bin"), "only files in the model's folder"),
    "empty": (changed("location", ""), "only files in the model's folder"),
    "link": (link, "leaves the model's folder"),
    "pipe": (pipe, "no regular file"),
    "folder": (changed("location", "."), "no regular file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_external_data(kind: str, tmp_path: Path):
    """One line that names tensor and file, exit code 2, nothing written."""
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(NETWORKS["chain"](), folder / "in.onnx")
    (tmp_path / "outside.bin").write_bytes((folder / "weights.bin").read_bytes())
    out = tmp_path / "out.onnx"
    out.write_text("precious")
    change, message = BAD[kind]
    change(path)
    for words in (["prune", path, out, "--target", "ratio=0.5"], ["inspect", path]):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 2, result.output
        assert result.output.startswith("Error: tensor 'c0'") and message in result.output
        assert result.output.count("\n") == 1
    assert out.read_text() == "precious" and hidden(tmp_path) == []


def test_links_inside_and_download_caches_are_read(tmp_path: Path):
    """A cache keeps files under their digests and links both of a model's to them."""
    model = NETWORKS["chain"]()
    cache, names = tmp_path / "blobs", tmp_path / "names"
    cache.mkdir()
    names.mkdir()
    external(model, cache / "in.onnx")
    (cache / "in.onnx").rename(cache / "a")
    (cache / "weights.bin").rename(cache / "b")
    (names / "in.onnx").symlink_to(cache / "a")
    (names / "weights.bin").symlink_to(cache / "b")
    path = names / "in.onnx"
    assert plain(prune(path, {"ratio": 1.0}).model) == plain(model)
    external(model, tmp_path / "in.onnx")
    (tmp_path / "weights.bin").rename(tmp_path / "real.bin")
    (tmp_path / "weights.bin").symlink_to("real.bin")
    again = prune(tmp_path / "in.onnx", {"ratio": 1.0}).model
    assert plain(again) == plain(model)


def test_several_files_in_folders_below(tmp_path: Path):
    model = NETWORKS["chain"]()
    path = external(model, tmp_path / "in.onnx")
    light = bare(path)
    (tmp_path / "parts").mkdir()
    for k, (tensor, whole) in enumerate(
        zip(light.graph.initializer, model.graph.initializer, strict=True)
    ):
        (tmp_path / "parts" / f"{k}").write_bytes(whole.raw_data)
        del tensor.external_data[:]  # neither offset nor length: the whole file
        entry(tensor, "location", f"parts/{k}")
    onnx.save(light, path)
    (tmp_path / "weights.bin").unlink()
    assert plain(prune(path, {"ratio": 1.0}).model) == plain(model)


def test_external_tensors_inside_of_attributes_and_bodies(tmp_path: Path):
    """They are few and are read into the model."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]> g (bool flag, float[2,3] x) => (float[2,3] y) {
            c = Constant <value = float[3] {1, 2, 3}> ()
            z = Add(x, c)
            y = If (flag) <
                then_branch = a () => (float[2,3] t) {
                    k = Constant <value = float[3] {4, 5, 6}> ()
                    t = Add(z, k)
                },
                else_branch = b () => (float[2,3] e) { e = Identity(z) }
            >
        }"""
    model = onnx.parser.parse_model(text)
    then = model.graph.node[2].attribute[0].g
    for node in (model.graph.node[0], then.node[0]):
        tensor = node.attribute[0].t
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values))  # as raw data
    onnx.save(
        model, tmp_path / "in.onnx", save_as_external_data=True, location="w.bin",
        size_threshold=0, convert_attribute=True,
    )  # fmt: skip
    assert (tmp_path / "w.bin").stat().st_size == 24
    found = load(tmp_path / "in.onnx")
    assert all(not t.data_location for t in graph.constants(found).values())
    feeds = {"flag": np.array(True), "x": np.ones((2, 3), np.float32)}
    y = runtime.run(runtime.open_session(graph.model_bytes(found)), feeds)["y"]
    assert np.array_equal(y, np.tile([6, 8, 10], (2, 1)).astype(np.float32))


def test_a_model_in_memory_does_not_say_where_its_data_lie(digits: Path):
    with pytest.raises(InputError, match=r"Give the path of the model instead"):
        prune(bare(digits), {"macs": 0.7})


def test_data_that_change_under_way_are_noticed(digits: Path):
    model = load(digits)
    truncate(digits)
    with pytest.raises(InputError, match=r"needs \d+ bytes at \d+ of .*weights.bin, which ends"):
        tensors.array(model.graph.initializer[-1])
    digits.with_name("weights.bin").unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        tensors.array(model.graph.initializer[-1])


# --- what is written


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file can grow beyond the limit, as on a disk that is full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_leaves_the_old_files(digits: Path):
    out, data = digits.with_name("out.onnx"), digits.with_name("out.onnx.data")
    result = prune(digits, {"macs": 0.7})
    out.write_text("old")
    data.write_text("old data")
    with small_files(50_000), pytest.raises(InputError, match=r"cannot be written: File too large"):
        result.save(out)
    assert (out.read_text(), data.read_text(), hidden(out.parent)) == ("old", "old data", [])
    with small_files(50_000), pytest.raises(InputError, match=r"the cut weights cannot be kept"):
        prune(digits, {"macs": 0.7}, scratch=digits.parent)
    gc.collect()
    assert hidden(out.parent) == []


@pytest.mark.parametrize("existed", [True, False])
def test_data_come_back_if_the_model_cannot_take_its_place(
    digits: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
):
    out, data = digits.with_name("out.onnx"), digits.with_name("out.onnx.data")
    result = prune(digits, {"macs": 0.7})
    if existed:
        data.write_text("old data")
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if target == out:
            assert data.read_bytes() != b"old data"
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(InputError, match=r"out.onnx: cannot be written: Permission denied"):
        result.save(out)
    assert data.exists() == existed and not out.exists() and hidden(out.parent) == []
    assert not existed or data.read_text() == "old data"


def test_an_unwritable_folder(digits: Path):
    result = prune(digits, {"macs": 0.7})
    with pytest.raises(InputError, match=r"no/such/out.onnx.data: cannot be written: No such"):
        result.save(digits.parent / "no/such/out.onnx")


def test_the_source_is_never_overwritten(tmp_path: Path):
    """Not by an output whose data file would take the name of the source's."""
    path = external(NETWORKS["chain"](), tmp_path / "in.onnx", "out.onnx.data")
    before = (tmp_path / "out.onnx.data").read_bytes()
    out = tmp_path / "out.onnx"
    with pytest.raises(InputError, match="where weights of the original lie"):
        prune(path, {"ratio": 0.6}).save(out)
    words = ["prune", str(path), str(out), "--target", "ratio=0.6", "--no-latency"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and f"where weights of {path} lie" in result.output
    assert (tmp_path / "out.onnx.data").read_bytes() == before and not out.exists()
    (tmp_path / "w.onnx.data").write_bytes((ROOT / "models" / "digits.onnx").read_bytes())
    words = ["prune", str(tmp_path / "w.onnx.data"), str(tmp_path / "w.onnx"), "--target", "macs=1"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "is the input itself" in result.output


def test_writing_over_the_source_is_safe(digits: Path, tmp_path: Path):
    """The weights that were not cut are still read from the source's data file."""
    result = prune(digits, {"macs": 0.7})
    expected = plain(result.model)
    result.save(digits)
    assert plain(onnx.load(digits)) == expected
    result.save(tmp_path / "again.onnx")
    assert plain(onnx.load(tmp_path / "again.onnx")) == expected


def test_the_command_line(digits: Path, tmp_path: Path):
    out = tmp_path / "out.onnx"
    words = ["prune", str(digits), str(out), "--target", "macs=0.7", "--no-latency"]
    text = CliRunner().invoke(main, words).output
    assert text.endswith(f"wrote     {out} and {out}.data\n")
    gc.collect()
    assert hidden(tmp_path) == []
    inline = str(ROOT / "models" / "digits.onnx")
    CliRunner().invoke(main, ["prune", inline, *words[2:]])
    one = onnx.load(out, load_external_data=False)
    assert not any(map(tensors.is_external, one.graph.initializer))
    CliRunner().invoke(main, ["prune", inline, *words[2:], "--external-data"])
    assert any(map(tensors.is_external, bare(out).graph.initializer))
    assert plain(onnx.load(out)) == plain(one)


def test_models_above_the_limit_get_a_data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(save, "LIMIT", 10_000)
    model = onnx.load(ROOT / "models" / "digits.onnx")
    result = prune(model, {"macs": 0.7})
    assert len(result.save(tmp_path / "out.onnx")) == 2
    assert plain(onnx.load(tmp_path / "out.onnx")) == plain(result.model)
    digest = save.digest(model, model)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    assert save.digest(model, model) != digest


# --- what is held


@pytest.mark.parametrize("name", NETWORKS)
def test_proofs_in_segments(name: str, monkeypatch: pytest.MonkeyPatch):
    """Every operator with weights runs on its own; all proofs hold as in one piece."""
    monkeypatch.setattr(graph, "LARGE", 0)
    counts = []
    split = segmented_run.split
    monkeypatch.setattr(
        segmented_run, "split", lambda *args: counts.append(len(s := split(*args))) or s
    )
    check_model(NETWORKS[name](), plans=2)
    assert max(counts) > 1


def test_segments_find_what_is_wrong(monkeypatch: pytest.MonkeyPatch):
    from networks import Net

    monkeypatch.setattr(graph, "LARGE", 0)
    monkeypatch.setitem(ops.COUPLINGS, "Softmax", lambda n: same_but((), n.inputs[0], n.outputs[0]))
    n = Net(x=("N", 3, 8, 8))
    y = n.op("Softmax", n.relu(n.conv("x", 3, 8)), axis=1)
    with pytest.raises(ProofError):
        prune(n.model(n.conv(y, 8, 4)), {"ratio": 0.5})


def test_segments_pass_every_type_on(monkeypatch: pytest.MonkeyPatch):
    """Sequences, integers and half precision between segments; a stored tensor as an output."""
    monkeypatch.setattr(graph, "LARGE", 0)
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,4] x) => (float[N,8] y, float[8] w) <float[4,8] a, float[8,8] b, float[8] w> {
            p = MatMul(x, a)
            s = SequenceConstruct(p, p)
            i = Cast <to = 7> (p)
            h = Cast <to = 10> (p)
            q = MatMul(p, b)
            zero = Constant <value = int64 {0}> ()
            r = SequenceAt(s, zero)
            j = Cast <to = 1> (i)
            k = Cast <to = 1> (h)
            y = Sum(q, r, j, k)
        }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    values = {"a": (4, 8), "b": (8, 8), "w": (8,)}
    del model.graph.initializer[:]
    for name, shape in values.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    from onnxprune.surgery.proof import ProofRun

    feeds = {"x": rng.standard_normal((3, 4)).astype(np.float32)}
    bench = ProofRun(model, fed=["a", "b", "w"])
    assert len(bench.runner.segments) == 2
    found = bench.run(feeds)
    expected = onnxruntime.InferenceSession(graph.model_bytes(model)).run(None, feeds)
    assert np.allclose(found["y"], expected[0], rtol=1e-6) and np.array_equal(
        found["w"], expected[1]
    )


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
def test_weights_are_never_all_in_memory(tmp_path: Path):
    """Beyond what any model costs, pruning takes far less memory than the weights."""
    file, out = tmp_path / "large.onnx", tmp_path / "out.onnx"
    build = [sys.executable, ROOT / "tools" / "bench_models.py", "build", "large", file]
    subprocess.run([*build, "--gigabytes", "0.1", "--width", "512"], check=True)
    weights = (tmp_path / "large.onnx.weights").stat().st_size
    words = [sys.executable, "-c", MEMORY, ROOT / "models" / "digits.onnx", file, out]
    done = subprocess.run(words, check=True, capture_output=True)
    assert int(done.stdout) < 0.7 * weights
    assert (tmp_path / "out.onnx.data").stat().st_size < 0.6 * weights


@pytest.mark.parametrize("name", NETWORKS)
def test_large_models_are_written_a_tensor_at_a_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model, path = NETWORKS[name](), tmp_path / "out.onnx"
    monkeypatch.setattr(graph, "LARGE", -1)
    save.save(model, path)
    assert graph.model_bytes(onnx.load(path)) == graph.model_bytes(model)
    assert path.stat().st_size == save.file_bytes(model)
