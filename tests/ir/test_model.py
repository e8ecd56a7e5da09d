"""The handle of a model: digest, bytes and sessions are those of the file it came from."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NETWORKS

from onnxprune.errors import InputError
from onnxprune.ir import runtime
from onnxprune.ir.model import read_model


def test_a_file_and_its_proto_are_the_same_model(tmp_path: Path) -> None:
    proto = NETWORKS["chain"]()
    onnx.save(proto, tmp_path / "m.onnx")
    by_path, by_value = read_model(tmp_path / "m.onnx"), read_model(proto)
    content = (tmp_path / "m.onnx").read_bytes()
    assert by_path.digest == hashlib.sha256(content).hexdigest()
    assert by_path.bytes == by_value.bytes == len(content)
    x = {"x": np.ones((1, 3, 16, 16), np.float32)}
    outputs = [runtime.run(model.session(), x) for model in (by_path, by_value)]
    for name, value in outputs[0].items():
        np.testing.assert_array_equal(value, outputs[1][name])


def test_saved_and_read_again(tmp_path: Path) -> None:
    model = read_model(NETWORKS["residual_spine"]())
    assert model.save(tmp_path / "m.onnx") == [tmp_path / "m.onnx"]
    again = read_model(tmp_path / "m.onnx")
    assert again.proto == model.proto and again.source == tmp_path / "m.onnx"


def test_weights_outside_are_read_into_the_whole(tmp_path: Path) -> None:
    model = read_model(NETWORKS["chain"]())
    written = model.save(tmp_path / "model.onnx", outside=True)
    outside = read_model(tmp_path / "model.onnx")
    assert len(outside.proto.SerializeToString()) < len(model.content()) / 2
    assert outside.whole == model.proto
    content = b"".join(path.read_bytes() for path in written)
    assert outside.digest == hashlib.sha256(content).hexdigest() != model.digest
    assert len(written) == 2 and outside.bytes == len(content)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_model(tmp_path / "none.onnx")
