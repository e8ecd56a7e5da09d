"""Teachers: those that give what the student gives, and those that do not."""

import numpy as np
import pytest
from lessons import classifier, lesson_arrays
from text_models import text_model

from onnxprune import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.training.teacher import behind_outputs, check_teacher, open_teacher

X = {"x": lesson_arrays(8)["x"]}
#: Another network with the same output, and a hidden tensor of the same name but another width.
OTHER = """
net (float[N, 4] x) => (float[N, 3] p) {
    h = Gemm <transB = 1> (x, a)
    s = Gemm <transB = 1> (h, c)
    p = Softmax (s)
}
"""


def net(inputs: str, output: str) -> str:
    return f"net ({inputs}) => ({output}) {{ p = Gemm <transB = 1> (x, a) }}"


def test_what_is_behind_outputs():
    assert behind_outputs(analyze(classifier()), ["p"]) == {"p": "s"}


def test_tensors_that_both_have():
    shapes = {"p": (8, 3), "h": (8, 8), "r": (8, 8)}
    same = open_teacher(analyze(classifier()), shapes, X, None)
    assert same.scores == {"p": "s"} and sorted(same.inside) == ["h", "r"]
    assert sorted(same.values(X)) == ["h", "p", "r", "s"]
    other = text_model(OTHER, a=(5, 4), c=(3, 5))
    opened = open_teacher(analyze(other), shapes, X, None)
    assert opened.inside == [] and np.shape(opened.values(X)["p"]) == (8, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (net("float[N, 4] x", "float[N, 3] p").replace("p", "q"), "has no output 'p', it gives q"),
        (net("double[N, 4] x", "double[N, 3] p"), "the teacher's output 'p' is output of type 11"),
        (net("float[N, 4] x, float[N, 4] z", "float[N, 3] p"), "the teacher reads 'z'"),
    ],
)
def test_teachers_that_take_or_give_something_else(text: str, message: str):
    kind = np.float64 if "double" in text else np.float32
    teacher = text_model(text, a=np.ones((3, 4), kind))
    with pytest.raises(InputError, match=message):
        check_teacher(teacher, classifier())


def test_a_teacher_with_other_classes():
    teacher = text_model(net("float[N, 4] x", "float[N, M] p"), a=(5, 4))
    with pytest.raises(InputError, match=r"has shape \[8, 5\], the model's \[8, 3\]: give a"):
        open_teacher(analyze(teacher), {"p": (8, 3)}, X, None)
