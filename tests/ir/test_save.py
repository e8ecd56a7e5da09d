"""A model is written whole or not at all, in one file or with a data file laid out for runtimes."""

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from external import bare, external, external_digits, hidden, plain, small_files
from networks import NETWORKS, Net

from onnxprune.errors import InputError
from onnxprune.ir import external_data, graph, save, tensors
from onnxprune.ir.model import read_model


def test_the_layout_of_the_data_file(tmp_path: Path) -> None:
    """Small tensors stay in the message, large ones begin at a page, others at 64 bytes."""
    model = NETWORKS["chain"]()
    large = onnx.numpy_helper.from_array(np.ones((600, 512), np.float32), "large")
    model.graph.initializer.insert(1, large)
    path, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    assert save.save(model, path, outside=True) == [path, data] == [path, save.data_path(path)]
    places = []
    for tensor in bare(path).graph.initializer:
        assert tensors.is_external(tensor) == (tensors.tensor_bytes(tensor) >= save.OUTSIDE)
        if tensors.is_external(tensor):
            places.append(tensors.extent(tensor))
            assert places[-1].offset % (4096 if tensor.name == "large" else 64) == 0
    assert {place.path for place in places} == {"model.onnx.data"}
    ends = [place.offset + (place.length or 0) for place in places]
    assert all(a <= b.offset for a, b in zip(ends, places[1:], strict=False))
    assert ends[-1] == data.stat().st_size
    assert plain(onnx.load(path)) == plain(model)
    onnx.checker.check_model(path, full_check=True)
    onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("name", NETWORKS)
def test_large_models_are_written_a_tensor_at_a_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a file that is as long as was said before."""
    model, path = NETWORKS[name](), tmp_path / "out.onnx"
    monkeypatch.setattr(graph, "LARGE", -1)
    save.save(model, path)
    assert graph.model_bytes(onnx.load(path)) == graph.model_bytes(model)
    assert path.stat().st_size == save.file_bytes(model)


def test_models_above_the_limit_get_a_data_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their digest is that of both files' content, and differs with a single weight."""
    monkeypatch.setattr(save, "LIMIT", 10_000)
    model = NETWORKS["chain"]()
    assert len(save.save(model, tmp_path / "out.onnx")) == 2
    assert plain(onnx.load(tmp_path / "out.onnx")) == plain(model)
    digest = save.digest(model, model)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    assert save.digest(model, model) != digest


def test_a_digest_is_that_of_the_files(tmp_path: Path) -> None:
    path = external(NETWORKS["chain"](), tmp_path / "in.onnx")
    content = path.read_bytes() + (tmp_path / "weights.bin").read_bytes()
    model = read_model(path).proto
    assert save.digest(path, model) == hashlib.sha256(content).hexdigest()
    whole = NETWORKS["chain"]()
    assert save.digest(whole, whole) == hashlib.sha256(graph.model_bytes(whole)).hexdigest()


def test_pieces_hold_every_weight_once(tmp_path: Path) -> None:
    model = NETWORKS["chain"]()
    outside = read_model(external(model, tmp_path / "in.onnx")).proto
    weights = [tensor.raw_data for tensor in model.graph.initializer]
    for source in (model, outside):
        *found, rest = save.pieces(source)
        assert found == weights
        assert onnx.ModelProto.FromString(rest).graph.node == model.graph.node
        assert not onnx.ModelProto.FromString(rest).graph.initializer


def test_a_full_disk_leaves_the_old_files(tmp_path: Path) -> None:
    model = read_model(external_digits(tmp_path)).proto
    out, data = tmp_path / "out.onnx", tmp_path / "out.onnx.data"
    out.write_text("old")
    data.write_text("old data")
    message = r"out\.onnx\.data: cannot be written: File too large\. Choose another output"
    with small_files(50_000), pytest.raises(InputError, match=message):
        save.save(model, out)
    assert (out.read_text(), data.read_text(), hidden(tmp_path)) == ("old", "old data", [])


@pytest.mark.parametrize("existed", [True, False])
def test_data_come_back_if_the_model_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    model = read_model(external_digits(tmp_path)).proto
    out, data = tmp_path / "out.onnx", tmp_path / "out.onnx.data"
    if existed:
        data.write_text("old data")
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if target == out:
            assert data.exists()
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(InputError, match=r"out.onnx: cannot be written: Permission denied"):
        save.save(model, out)
    assert data.exists() == existed and not out.exists() and hidden(tmp_path) == []
    assert not existed or data.read_text() == "old data"


def test_an_unwritable_folder(tmp_path: Path) -> None:
    model = read_model(external_digits(tmp_path)).proto
    with pytest.raises(InputError, match=r"no/such/out.onnx.data: cannot be written: No such"):
        save.save(model, tmp_path / "no/such/out.onnx")


def test_the_data_of_the_source_are_never_overwritten(tmp_path: Path) -> None:
    """Not by an output whose data file would take the name of the source's."""
    path = external(NETWORKS["chain"](), tmp_path / "in.onnx", "out.onnx.data")
    before = (tmp_path / "out.onnx.data").read_bytes()
    message = (
        r"out\.onnx: its data would replace .*out\.onnx\.data, where weights of the original lie"
    )
    with pytest.raises(InputError, match=message):
        save.save(read_model(path).proto, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx.data").read_bytes() == before
    assert not (tmp_path / "out.onnx").exists()


def test_data_that_are_cut_short_while_they_are_copied_are_noticed(tmp_path: Path) -> None:
    n = Net(x=("N", 64))
    path = external(n.model(n.op("MatMul", "x", n.weight(64, 64))), tmp_path / "in.onnx")
    model = read_model(path).proto
    os.truncate(tmp_path / "weights.bin", 100)
    with pytest.raises(InputError, match=r"weights\.bin: was truncated while it was being read"):
        save.save(model, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists() and hidden(tmp_path) == []


def wide() -> onnx.ModelProto:
    """Weights of many sizes, one of them larger than a page's share of the data file."""
    n = Net(x=("N", 700))
    return n.model(n.gemm(n.relu(n.gemm("x", 700, 400)), 400, 3))


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("name", ["chain", "half_precision", "wide"])
def test_size_and_digest_are_known_before(name: str, outside: bool, tmp_path: Path) -> None:
    model = wide() if name == "wide" else NETWORKS[name]()
    files = save.save(model, tmp_path / "model.onnx", outside)  # the name that sizes are told for
    read = read_model(files[0]).proto
    assert external_data.is_external(read) == outside == (len(files) == 2)
    assert save.file_bytes(read) == sum(file.stat().st_size for file in files)
    assert graph.model_bytes(external_data.inlined(read)) == graph.model_bytes(model)
    if not outside:
        assert save.digest(model, model) == hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert save.digest(files[0], read) == save.digest(str(files[0]), read)


def test_a_digest_counts_every_weight(tmp_path: Path) -> None:
    model = wide()
    (path, data) = save.save(model, tmp_path / "m.onnx", outside=True)
    before = save.digest(path, read_model(path).proto)
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    assert save.digest(path, read_model(path).proto) != before


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(InputError, match=r"m\.onnx: cannot be written: Is a directory"):
        save.save(wide(), tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
