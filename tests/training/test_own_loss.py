"""Losses of the user's own: written in ONNX operators, trained on like those that have a name."""

from pathlib import Path

import numpy as np
import pytest
from lessons import classifier, lesson_arrays
from text_models import text_model

import onnxprune
from onnxprune import InputError
from onnxprune.training import tune
from onnxprune.training.loop import Run, Trained, train
from onnxprune.training.own_loss import with_own_losses

ARRAYS = lesson_arrays(96)
LOSSES = """
def focal(op, outputs, labels):
    '''Cross-entropy, less where the model is sure (Lin et al., 2017), gamma 0: the plain one.'''
    depth, on_off = op.constant(3, "int64"), op.constant([0.0, 1.0])
    wanted = op.OneHot(labels["p"], depth, on_off, axis=1)
    logs = op.Log(op.Clip(outputs["p"], op.constant(1e-7), op.constant(1.0)))
    each = op.Mul(wanted, logs)
    return op.Mul(op.mean(each), op.constant(-3.0))

def each(op, outputs, labels):
    return op.Neg(outputs["p"])

def squared(op, outputs, labels):
    gap = op.Sub(outputs["p"], labels["p"])
    return op.mean(op.Mul(gap, gap))

def size(op, outputs, labels):
    return op.mean(op.Mul(outputs["p"], outputs["p"]))

def number(op, outputs, labels):
    return op.mean(op.Mul(outputs["p"], 2.0))

def nothing(op, outputs, labels):
    return None

def fails(op, outputs, labels):
    return outputs["q"]
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "own_losses.py").write_text(LOSSES)
    return str(tmp_path / "own_losses.py")


def test_cross_entropy_written_by_hand_is_that_with_a_name(code: str):
    a, b = (
        onnxprune.finetune(classifier(0.5), ARRAYS, loss={loss: 1.0}, epochs=2, augment=False)
        for loss in (f"{code}:focal", "ce")
    )
    assert list(a.report.losses) == [f"{code}:focal"] and a.report.best == 2
    losses = [[loss for loss, _ in one.report.history] for one in (a, b)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert [n.op_type for n in a.model.graph.node] == [n.op_type for n in b.model.graph.node]


def test_it_sees_samples_as_they_are(code: str, monkeypatch: pytest.MonkeyPatch):
    """Labels of floating point are not mixed, and without labels nothing is mirrored."""
    text = """
    net (float[N, 1, 8, 8] x) => (float[N, 2] p) {
        m = GlobalAveragePool (x)
        f = Flatten (m)
        p = Gemm <transB = 1> (f, a, b)
    }
    """
    x = np.random.default_rng(0).standard_normal((12, 1, 8, 8)).astype(np.float32)
    labels, runs = x.mean((2, 3)).repeat(2, 1), list[Run]()

    def seen(run: Run) -> Trained:
        runs.append(run)
        return train(run)

    monkeypatch.setattr(tune, "train", seen)
    model, losses = text_model(text, a=(2, 1), b=(2,)), {f"{code}:squared": 1.0}
    onnxprune.finetune(model, {"x": x, "labels": labels}, loss=losses, epochs=1)
    onnxprune.finetune(model, calib={"x": x}, loss={f"{code}:size": 1.0}, epochs=1)
    assert [(run.mixes, run.augmentations) for run in runs] == [(False, ())] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("each", r"a loss of your own gives \[64, 3\]: return one number, its mean"),
        ("number", r"op\.Mul takes names of tensors, not 2\.0: name stored numbers by op\.const"),
        ("nothing", "gave None: return what an operator of `op` gave"),
        ("fails", "KeyError in line .* of own_losses.py: 'q'"),
        ("other", "has no function 'other'. It has: focal, each, squared, size"),
    ],
)
def test_refusals(code: str, name: str, message: str):
    with pytest.raises(InputError, match=message):
        onnxprune.finetune(classifier(), ARRAYS, loss={f"{code}:{name}": 1.0})


def test_samples_without_labels_are_refused(code: str):
    with pytest.raises(InputError, match="reads labels: leave out --calib, or --data"):
        onnxprune.finetune(
            classifier(), ARRAYS, loss={f"{code}:focal": 1.0}, calib={"x": ARRAYS["x"]}
        )


def test_the_model_itself_stays(code: str):
    model = classifier()
    before = model.SerializeToString()
    made = with_own_losses(model, [f"{code}:focal", f"{code}:each"], {"p": ARRAYS["labels"]})
    assert model.SerializeToString() == before and len(set(made.names)) == 2
    assert [v.name for v in made.model.graph.output] == ["p", *made.names]
