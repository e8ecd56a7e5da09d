"""Models in a folder: taken as they were kept, or not at all."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from networks import NETWORKS

from onnxprune.atomic_files import Store
from onnxprune.errors import InputError
from onnxprune.groups.analysis import load
from onnxprune.ir import external_data, graph
from onnxprune.pipeline.model_store import keep_model, kept_model


@pytest.fixture(params=["inside", "outside"])
def model(request, tmp_path: Path) -> onnx.ModelProto:
    """A network with its weights inside, or in a file beside it."""
    made = NETWORKS["chain"]()
    if request.param == "inside":
        return made
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, location="w",
              size_threshold=0)  # fmt: skip
    return load(tmp_path / "m.onnx")


def plain(model: onnx.ModelProto) -> bytes:
    return graph.model_bytes(external_data.inlined(model))


def test_a_model_comes_back_with_its_facts(model: onnx.ModelProto, tmp_path: Path):
    store = Store(tmp_path / "store")
    assert kept_model(store, "key") is None
    keep_model(store, "key", model, {"notes": ["a"], "share": 0.5})
    kept = kept_model(store, "key")
    assert kept is not None and plain(kept.model) == plain(model)
    assert (kept.facts["notes"], kept.facts["share"]) == (["a"], 0.5)
    outside = external_data.is_external(model)
    names = {path.name for path in (tmp_path / "store").iterdir()}
    assert names == {"key.json", "key.onnx"} | ({"key.onnx.data"} if outside else set())


@pytest.mark.parametrize("suffix", [".json", ".onnx", ".onnx.data"])
@pytest.mark.parametrize("damage", ["missing", "short", "other"])
def test_damage_is_noticed(model: onnx.ModelProto, tmp_path: Path, suffix: str, damage: str):
    store = Store(tmp_path / "store")
    keep_model(store, "key", model, {})
    file = tmp_path / "store" / f"key{suffix}"
    if not file.exists():
        pytest.skip("the model needs no such file")
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        changed = content[:-1] + bytes([content[-1] ^ 1])
        file.write_bytes(content[: len(content) // 2] if damage == "short" else changed)
    assert kept_model(store, "key") is None
    keep_model(store, "key", model, {})
    assert kept_model(store, "key") is not None


def test_the_digest_counts_not_what_the_entry_calls_it(tmp_path: Path):
    store = Store(tmp_path)
    keep_model(store, "key", NETWORKS["chain"](), {})
    contents: tuple[Any, ...] = ({}, {"model": "other"}, [], None)
    for content in contents:
        (tmp_path / "key.json").write_text(json.dumps(content))
        assert kept_model(store, "key") is None


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: cannot be written: File exists"):
        keep_model(Store(tmp_path / "file"), "key", NETWORKS["chain"](), {})
