"""Reading a model: from a file, a message or a graph of onnx-graphsurgeon; what cannot be read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon
import pytest
from networks import NETWORKS, samples_of
from onnx_text import run

from onnxprune.errors import InputError
from onnxprune.ir.load import load


def test_a_message_is_taken_as_it_is_and_a_file_holds_the_same(tmp_path: Path) -> None:
    model = NETWORKS["chain"]()
    onnx.save(model, tmp_path / "m.onnx")
    assert load(model) is model
    assert load(tmp_path / "m.onnx") == load(str(tmp_path / "m.onnx")) == model


def test_a_graph_of_graphsurgeon_computes_the_same() -> None:
    model = NETWORKS["pooled_classifier"]()
    found = load(onnx_graphsurgeon.import_onnx(model))
    assert isinstance(found, onnx.ModelProto)
    feeds = samples_of(model, np.random.default_rng(0))
    for name, value in run(model, **feeds).items():
        np.testing.assert_array_equal(run(found, **feeds)[name], value)


def test_external_data_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(NETWORKS["chain"](), path, save_as_external_data=True, location="w", size_threshold=0)
    (tmp_path / "w").unlink()
    assert not any(tensor.raw_data for tensor in load(path).graph.initializer)


def truncated(path: Path) -> None:
    path.write_bytes(NETWORKS["chain"]().SerializeToString()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def replaced_by_text(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>")


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (lambda path: None, r"m\.onnx: no such file\. Give the path of an \.onnx model"),
    (lambda path: path.mkdir(), r"m\.onnx: is a folder\. Give the path"),
    (truncated, r"m\.onnx: not an ONNX model, or truncated\. Export it again"),
    (replaced_by_text, r"m\.onnx: not an ONNX model, or truncated"),
    (emptied, r"m\.onnx: not an ONNX model, or one without any operator"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_is_no_model_is_refused_in_one_line(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    make(tmp_path / "m.onnx")
    with pytest.raises(InputError, match=message) as error:
        load(tmp_path / "m.onnx")
    assert "\n" not in str(error.value)


def test_what_is_neither_a_path_nor_a_model() -> None:
    with pytest.raises(
        InputError, match=r"model 3: give the path of an \.onnx model, or a ModelPr"
    ):
        load(3)  # type: ignore[arg-type]
