"""Fine-tuning as users ask for it: from files to a file, in recipes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from lessons import CLASSIFIER, classifier, lesson_arrays, weights
from onnx_text import run
from text_models import stored_array, text_model

import onnxprune
from onnxprune import InputError
from onnxprune.cli import main
from onnxprune.pipeline.finetune import FinetuneChanges
from onnxprune.training.options import Training

ARRAYS = lesson_arrays(160)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, a student that is often wrong, and samples."""
    made: Path = tmp_path_factory.mktemp("finetune")
    onnx.save(classifier(), made / "teacher.onnx")
    onnx.save(classifier(0.5), made / "student.onnx")
    np.savez(made / "train.npz", x=ARRAYS["x"][:120], labels=ARRAYS["labels"][:120])
    np.savez(made / "test.npz", x=ARRAYS["x"][120:], labels=ARRAYS["labels"][120:])
    return made


def command(folder: Path, *words: str, code: int = 0) -> str:
    files = [str(folder / "student.onnx"), str(folder / "out.onnx")]
    result = CliRunner().invoke(main, ["finetune", *files, *words])
    assert result.exit_code == code, result.output
    return result.output


def test_from_files_to_a_file(folder: Path):
    train, test, teacher = (str(folder / n) for n in ("train.npz", "test.npz", "teacher.onnx"))
    words = ["--data", train, "--teacher", teacher, "--test", test, "--epochs", "3"]
    text = command(folder, *words, "--report", str(folder / "r.json"))
    told = json.loads((folder / "r.json").read_text())
    assert told["losses"] == {"ce": 1.0, "kl": 1.0} and told["asked"] == {"epochs": 3}
    before, after = told["fidelity"]["accuracy"]
    assert after > before and f"{after:.2%}" in text and "tuned     100.0%" in text
    first = (folder / "out.onnx").read_bytes()
    made = onnx.load(folder / "out.onnx")
    assert [n.op_type for n in made.graph.node] == [n.op_type for n in classifier().graph.node]
    right = run(made, x=ARRAYS["x"][120:])["p"].argmax(1) == ARRAYS["labels"][120:]
    assert right.mean() == after
    for _ in range(2):  # kept when it was done, and taken from there
        command(folder, *words, "--finished", str(folder / "kept"), "-q")
        assert (folder / "out.onnx").read_bytes() == first


def test_a_teacher_and_samples_without_labels(folder: Path):
    found = onnxprune.finetune(
        folder / "student.onnx",
        teacher=folder / "teacher.onnx",
        calib={"x": ARRAYS["x"]},
        epochs=2,
        exclude=["^c$"],
    )
    assert found.report.losses == {"kl": 1.0} and found.report.best > 0
    assert found.report.reached.left == {"c": "it is excluded"}
    student = classifier(0.5)
    assert (stored_array(found.model, "c") == stored_array(student, "c")).all()
    assert (stored_array(found.model, "a") != stored_array(student, "a")).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "{}/train.npz", "--loss", "kl"], "loss kl needs a teacher: give --teacher"),
        (["--data", "{}/train.npz", "--teacher", "{}/no.onnx"], "no.onnx: no such file"),
        (["--data", "{}/no.npz"], "training data {}/no.npz: no such file"),
        ([], "nothing to learn from: give samples with labels"),
        (["--data", "{}/train.npz", "--loss", "bce"], "give a number for each"),
        (["--data", "{}/train.npz", "--held-out", "2"], "held_out 2.0: give a share"),
        (["--data", "{}/train.npz", "--exclude", "^zz"], "matches no node and no weight"),
        (["--data", "{}/train.npz", "--calib", "{}/test.npz"], "and no loss compares it with a te"),
        (["--data", "{}/train.npz", "--finished", "{}/test.npz"], "test.npz: is no folder."),
    ],
)
def test_refusals(folder: Path, words: list[str], message: str):
    text = command(folder, *(word.replace("{}", str(folder)) for word in words), code=2)
    assert message.replace("{}", str(folder)) in text and len(text.splitlines()) == 1


def test_settings_are_those_that_are_typed():
    with pytest.raises(InputError, match=r"unknown setting 'epoch'\. There are: loss, epochs"):
        onnxprune.finetune(classifier(), ARRAYS, epoch=1)  # type: ignore[call-arg]
    own = set(Training.__dataclass_fields__)
    assert own < set(FinetuneChanges.__annotations__)


STORED = "w = DequantizeLinear (q, s) y = MatMul (x, w)"
DYNAMIC = """
    b, t, z = DynamicQuantizeLinear (x)
    i = MatMulInteger (b, q, z)
    c = Cast <to = 1> (i)
    y = Mul (c, s)
"""


@pytest.mark.parametrize("body", [STORED, DYNAMIC])
def test_a_quantised_model_is_refused(body: str):
    text = f"net (float[N, 4] x) => (float[N, 3] y) {{ {body} }}"
    model = text_model(text, q=np.ones((4, 3), np.int8), s=np.array(1, np.float32))
    with pytest.raises(InputError, match=r"the model is quantised .* give the model of floa"):
        onnxprune.finetune(model, {"x": ARRAYS["x"], "labels": ARRAYS["labels"]})


def test_as_a_stage_with_the_original_as_teacher():
    stages: list[dict[str, Any]] = [
        {"kind": "sparsify", "sparsity": 0.6},
        {"kind": "finetune", "data": ARRAYS, "epochs": 2},
    ]
    recipe = onnxprune.recipe({"stage": stages})
    found = onnxprune.run(recipe, classifier(), latency=False, data=ARRAYS)
    sparse, tuned = found.stages
    assert tuned.kind == "finetune" and tuned.details["losses"] == {"ce": 1.0, "kl": 1.0}
    assert tuned.details["best"] > 0
    weight = stored_array(found.model, "a")
    assert (weight == 0).mean() == pytest.approx(0.6, abs=0.3) and sparse.kind == "sparsify"
    assert tuned.fidelity["sqnr_db"] > sparse.fidelity["sqnr_db"]


@pytest.mark.parametrize(
    ("options", "count"),
    [({"loss": {"ce": 1.0}}, 160), ({"teacher": None}, 160), ({"loss": {"ce": 1, "kl": 1}}, 190)],
)
def test_samples_of_a_recipe_are_trained_on_where_a_teacher_speaks(
    options: dict[str, Any], count: int
):
    stage = {"kind": "finetune", "data": ARRAYS, "epochs": 1, **options}
    calib = {"x": lesson_arrays(190)["x"][160:]}
    recipe = onnxprune.recipe({"stage": [stage], "calib": calib})
    (tuned,) = onnxprune.run(recipe, classifier(0.5), latency=False).stages
    assert sum(tuned.details["samples"].values()) == count


def test_a_model_of_float16_learns_in_float32():
    """Numbers of a step are far below what float16 can tell apart; what is written is float16."""
    text = CLASSIFIER.replace("float[", "float16[")
    half = {name: array.astype(np.float16) for name, array in weights(classifier(0.5)).items()}
    data = {"x": ARRAYS["x"].astype(np.float16), "labels": ARRAYS["labels"]}
    model = text_model(text, **half)
    found = onnxprune.finetune(model, data, epochs=3)
    history = [loss for loss, _ in found.report.history]
    assert found.report.best > 0 and min(history) < 0.9 * history[0]
    assert {array.dtype for array in weights(found.model).values()} == {np.dtype(np.float16)}
    assert run(found.model, x=data["x"])["p"].dtype == np.float16
