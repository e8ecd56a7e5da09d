"""Weights in external files are read only where they may be; scratch files go when they can."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from external import bare, external, hidden, plain, small_files
from networks import NETWORKS
from onnx_text import run

from onnxprune.errors import InputError
from onnxprune.ir import external_data, graph, tensors
from onnxprune.ir.external_data import Scratch, attempt, spill
from onnxprune.ir.model import read_model


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
def test_bad_external_data_are_refused_by_the_name_of_their_tensor(
    kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(NETWORKS["chain"](), folder / "in.onnx")
    (tmp_path / "outside.bin").write_bytes((folder / "weights.bin").read_bytes())
    change, message = BAD[kind]
    change(path)
    with pytest.raises(InputError, match=r"^tensor 'c0'") as error:
        read_model(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_links_inside_and_download_caches_are_read(tmp_path: Path) -> None:
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
    assert plain(read_model(names / "in.onnx").proto) == plain(model)
    external(model, tmp_path / "in.onnx")
    (tmp_path / "weights.bin").rename(tmp_path / "real.bin")
    (tmp_path / "weights.bin").symlink_to("real.bin")
    assert plain(read_model(tmp_path / "in.onnx").proto) == plain(model)


def test_several_files_in_folders_below(tmp_path: Path) -> None:
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
    found = read_model(path).proto
    assert plain(found) == plain(model)
    parts = tmp_path.resolve() / "parts"
    assert external_data.data_files(found) == [str(parts / f"{k}") for k in range(6)]


def test_external_tensors_inside_of_attributes_and_bodies(tmp_path: Path) -> None:
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
    found = read_model(tmp_path / "in.onnx").proto
    assert all(not t.data_location for t in graph.constants(found).values())
    y = run(found, flag=np.array(True), x=np.ones((2, 3), np.float32))["y"]
    assert np.array_equal(y, np.tile([6, 8, 10], (2, 1)).astype(np.float32))


def test_a_model_in_memory_does_not_say_where_its_data_lie(tmp_path: Path) -> None:
    path = external(NETWORKS["chain"](), tmp_path / "in.onnx")
    message = (
        r"^tensor 'c0' lies in the file 'weights.bin', and a model in memory does not say in which "
        r"folder\. Give the path of the model instead"
    )
    with pytest.raises(InputError, match=message):
        read_model(bare(path))


def test_a_model_with_its_weights_inside_is_the_same(tmp_path: Path) -> None:
    model = NETWORKS["chain"]()
    assert external_data.inlined(model) is model and not external_data.is_external(model)
    found = read_model(external(model, tmp_path / "in.onnx")).proto
    assert external_data.is_external(found)
    whole = external_data.inlined(found)
    (tmp_path / "weights.bin").unlink()
    assert graph.model_bytes(whole) == graph.model_bytes(model)


def test_a_scratch_folder_goes_with_its_last_reference(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    (scratch.path / "weights").write_bytes(b"many")
    again = scratch
    del scratch
    gc.collect()
    assert hidden(tmp_path) == [again.path.name]
    del again
    gc.collect()
    assert hidden(tmp_path) == []
    with pytest.raises(InputError, match=r"^scratch folder .*nowhere: No such file or directory"):
        Scratch(tmp_path / "nowhere")


def test_an_attempt_leaves_a_folder_only_if_it_goes_well_and_is_kept(tmp_path: Path) -> None:
    for keep in (True, False):
        with attempt(tmp_path, keep) as folder:
            assert folder is not None and folder.is_dir()
        assert folder.exists() == keep
    with pytest.raises(ValueError, match="wrong"), attempt(tmp_path, True):
        raise ValueError("wrong")
    assert len(list(tmp_path.iterdir())) == 1
    with attempt(None, True) as folder:
        assert folder is None


def test_new_content_of_external_tensors_goes_to_a_fresh_file(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensor = onnx.numpy_helper.from_array(values, "w")
    with spill(tmp_path) as put:
        assert put is not None
        first, second = put(tensor, values), put(tensor, values[:, 1:])
        assert np.array_equal(tensors.array(first), values)  # while the file is open
    assert tensors.extent(second).offset == 48 and second.name == "w"
    assert np.array_equal(tensors.array(second), values[:, 1:])
    with spill(None) as put:
        assert put is None
    message = r"the cut weights cannot be kept here: File too large\. Free space, or name another"
    with small_files(20), pytest.raises(InputError, match=message), spill(tmp_path) as put:
        assert put is not None
        put(tensor, values)


@pytest.mark.parametrize("location", ["we\0ights.bin", "x" * 300, "y" * 5000])
def test_a_name_that_no_file_can_have_is_refused(location: str, tmp_path: Path) -> None:
    path = external(NETWORKS["chain"](), tmp_path / "m.onnx")
    changed("location", location)(path)
    with pytest.raises(InputError, match=r"which no file can be called|which is missing from"):
        read_model(path)
