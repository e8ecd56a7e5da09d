"""Real models from packages: how agreement is measured, and models whose packages are at hand."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from paths import TOOLS

import onnxprune

sys.path.insert(0, str(TOOLS))
import real_measures as measures
from real_models import MODELS, RealModel
from real_packages import MissingError, cached, content

#: Small ones that broke something; the others take minutes.
QUICK = ("Swift-F0", "Silero VAD", "text2tashkeel BiLSTM", "PP-OCR direction")
SMALL = [model for model in MODELS if model.name.startswith(QUICK)]
#: Where the benchmark keeps wheels; looked up before tests get a cache of their own.
WHEELS = cached()


def scores(*rows: list[float]) -> list[dict[str, Any]]:
    return [{"y": np.array([row], np.float32)} for row in rows]


def test_classes_characters_and_decisions() -> None:
    a, b = scores([0, 1], [1, 0]), scores([0, 2], [0, 1])
    assert measures.classes(a, b) == "top-1 agreement 50.0%"
    long = [{"y": np.eye(4, dtype=np.float32)[None]}]
    other = [{"y": np.eye(4, dtype=np.float32)[None, [0, 1, 2, 2]]}]
    assert measures.characters(long, other) == "same character 75.0%"
    found = measures.decisions(scores([0.9], [0.1]), scores([0.8], [0.6]))
    assert found == "same decision 50.0%, off by 0.300"


def test_texts_leave_out_blanks_and_repeats() -> None:
    """1 1 0 1 2 spells 1 1 2; one character of three is another."""
    a, b = ([{"y": np.eye(4)[None, row]}] for row in ([1, 1, 0, 1, 2], [1, 0, 1, 1, 3]))
    measure = measures.texts(0, 1)
    assert measure(a, a) == "same text 100.0%, characters 100.0%"
    assert measure(a, b) == "same text 0.0%, characters 66.7%"


def test_boxes_match_by_place_and_class() -> None:
    """Rows of center, size and two classes; the second box lies inside the first's shadow."""
    rows = np.array([[10, 10, 8, 8, 0.9, 0], [10, 11, 8, 8, 0.5, 0], [40, 40, 8, 8, 0, 0.9]])
    moved = rows.copy()
    moved[2, 0] += 30
    measure = measures.boxes(0.3)
    a, b = ([{"y": found.T[None]}] for found in (rows, moved))
    assert measure(a, a) == "F1 of boxes 1.000 (2 boxes)"
    assert measure(a, b) == "F1 of boxes 0.500 (2 boxes)"


def test_pitches_count_where_the_original_is_confident() -> None:
    def found(*pitch: float) -> list[dict[str, Any]]:
        return [{"pitch": np.array([pitch]), "confidence": np.array([[0.95, 0.95, 0.1]])}]

    got = measures.pitches(found(100, 200, 300), found(100 * 2 ** (1 / 12), 200, 90))
    assert got == "pitch off by 50 cents, same confidence 100.0%"


def test_masks_notes_and_embeddings() -> None:
    a = [{"m": np.array([[0.9, 0.9, 0.1]]), "n": np.array([[1.0, 0, 0]])}]
    b = [{"m": np.array([[0.9, 0.1, 0.1]]), "n": np.array([[1.0, 1, 0]])}]
    assert measures.masks(a, b) == "IoU of text 0.500"
    assert measures.notes_found(a, b) == "F1 of notes 0.667"
    u, v = ([{"e": np.array([[vector]])}] for vector in ([1.0, 0], [1.0, 1]))
    assert measures.embeddings(u, v) == "cosine 0.707"
    assert measures.mean_scores(u, v) == "score off by 0.500"


def test_a_package_without_the_file_is_missing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some_package-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("a.onnx", b"model")
    release = ("some-package", "1.0")
    assert content(release, "a.onnx", tmp_path) == b"model"
    with pytest.raises(MissingError, match=r"b\.onnx"):
        content(release, "b.onnx", tmp_path)


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.name)
def test_real_models_need_no_shapes(model: RealModel) -> None:
    """On a sample as data: sizes, and what the proof is fed, come from it where need be."""
    name, version = model.release
    if not any(WHEELS.glob(f"{name.replace('-', '_')}-{version}-*.whl")):
        pytest.skip(f"{name} {version} was not downloaded: python tools/bench.py real")
    try:
        (sample,) = model.feeds(WHEELS, 1)
    except MissingError as reason:
        pytest.skip(str(reason))
    proto = onnx.load_from_string(content(model.release, model.member, WHEELS))
    data = None if sample.keys() & {"state", "h"} else sample
    result = onnxprune.prune(proto, {"macs": 0.8}, latency=False, data=data)
    assert result.report.proof.passed and result.report.after.bytes < proto.ByteSize()
