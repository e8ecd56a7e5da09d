"""Samples with labels: from every form that calibration knows, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lessons import classifier, lesson_arrays

from onnxprune import InputError
from onnxprune.calibration.samples import calibration
from onnxprune.training.samples import SampleSet, labelled, unlabelled

MODEL, ARRAYS = classifier(), lesson_arrays(150)
PYTHON = """
import numpy as np
def samples():
    arrays = np.load({path!r})
    for k in range(0, 150, 50):
        yield {{name: arrays[name][k : k + 50] for name in ("x", "labels")}}
"""


def both(found: SampleSet) -> tuple[Any, Any]:
    """All inputs and labels in the order in which they were read."""
    return (
        np.concatenate([batch.feeds["x"] for batch in found.batches]),
        np.concatenate([batch.labels["p"] for batch in found.batches]),
    )


@pytest.mark.parametrize("form", ["arrays", "npz", "folder", "npy", "function", "iterable"])
def test_every_form(form: str, tmp_path: Path):
    x, labels = ARRAYS["x"], ARRAYS["labels"]
    source: Any = tmp_path
    if form == "arrays":
        source = ARRAYS
    elif form == "iterable":
        source = [{"x": x[k : k + 7], "labels": labels[k : k + 7]} for k in range(0, 150, 7)]
    elif form == "folder":
        for k in range(3):
            np.savez(tmp_path / f"{k}.npz", x=x[k * 50 :][:50], labels=labels[k * 50 :][:50])
    elif form == "npy":
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "labels.npy", labels)
    else:
        np.savez(tmp_path / "a.npz", x=x, labels=labels)
        source = str(tmp_path / "a.npz")
        if form == "function":
            (tmp_path / "feed.py").write_text(PYTHON.format(path=source))
            source = f"{tmp_path}/feed.py:samples"
    found = labelled(source, MODEL)
    got, told = both(found)
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(told, labels)
    assert found.samples == 150 and found.labelled and not found.whole


def test_labels_of_one_output_among_several():
    found = labelled({"x": ARRAYS["x"], "labels/p": ARRAYS["labels"]}, MODEL)
    np.testing.assert_array_equal(both(found)[1], ARRAYS["labels"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": ARRAYS["x"]}, "holds no labels. Add an array 'labels', or give the samples as --ca"),
        ({**ARRAYS, "labels": ARRAYS["labels"][1:]}, "but there are 150 samples: give one label"),
        ({"labels": ARRAYS["labels"]}, "lacks input 'x'"),
        ({"x": ARRAYS["x"], "labels/q": ARRAYS["labels"]}, "'labels/q' is for no output"),
        ({**ARRAYS, "labels": ARRAYS["labels"] + 1j}, "'labels' is complex128: give numbers"),
    ],
)
def test_refusals(arrays: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message) as caught:
        labelled(arrays, MODEL)
    assert str(caught.value).startswith("training data")


def test_a_file_that_is_missing(tmp_path: Path):
    with pytest.raises(InputError, match=r"training data .*no\.npz: no such file"):
        labelled(tmp_path / "no.npz", MODEL)


def test_calibration_data_has_no_labels():
    found = unlabelled(calibration(ARRAYS, MODEL))
    assert found.samples == 150 and not found.labelled
    assert set(found.batches[0].feeds) == {"x"}
