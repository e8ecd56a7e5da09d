"""A model's files: their size and digest before they are written, and that they are whole."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net

from onnxprune import InputError
from onnxprune.groups.analysis import load
from onnxprune.ir import external_data, graph, save


def wide() -> onnx.ModelProto:
    """Weights of many sizes, one of them larger than a page's share of the data file."""
    n = Net(x=("N", 700))
    return n.model(n.gemm(n.relu(n.gemm("x", 700, 400)), 400, 3))


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("name", ["chain", "half_precision", "wide"])
def test_size_and_digest_are_known_before(name: str, outside: bool, tmp_path: Path):
    model = wide() if name == "wide" else NETWORKS[name]()
    files = save.save(model, tmp_path / "model.onnx", outside)  # the name that sizes are told for
    read = load(files[0])
    assert external_data.is_external(read) == outside == (len(files) == 2)
    assert save.file_bytes(read) == sum(file.stat().st_size for file in files)
    assert graph.model_bytes(external_data.inlined(read)) == graph.model_bytes(model)
    if not outside:
        assert save.digest(model, model) == hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert save.digest(files[0], read) == save.digest(str(files[0]), load(files[0]))


def test_a_digest_counts_every_weight(tmp_path: Path):
    model = wide()
    (path, data) = save.save(model, tmp_path / "m.onnx", outside=True)
    before = save.digest(path, load(path))
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    assert save.digest(path, load(path)) != before


def test_large_weights_begin_at_a_page(tmp_path: Path):
    path, _ = save.save(wide(), tmp_path / "m.onnx", outside=True)
    (weight, *_) = sorted(onnx.load(path, load_external_data=False).graph.initializer,
                          key=lambda tensor: -np.prod(tensor.dims))  # fmt: skip
    places = {entry.key: int(entry.value) for entry in weight.external_data
              if entry.key in ("offset", "length")}  # fmt: skip
    assert places["length"] >= save.PAGED and places["offset"] % 4096 == 0


def test_a_folder_in_the_way(tmp_path: Path):
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(InputError, match=r"m\.onnx: cannot be written: Is a directory"):
        save.save(wide(), tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
