"""Fine-tuning as a whole: what is learnt, what stays zero, what the report is told."""

import numpy as np
import pytest
from lessons import classifier, lesson_arrays, samples_in
from text_models import text_model

from onnxprune import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.ir.patch import patch
from onnxprune.training.options import Training
from onnxprune.training.tune import Place, tune

ARRAYS = lesson_arrays(120)


def test_labels_and_a_teacher():
    student, teacher = analyze(classifier(0.5)), analyze(classifier())
    others = samples_in({"x": lesson_arrays(180)["x"][120:]})
    found = tune(student, teacher, [samples_in(ARRAYS), others], Training(epochs=2), Place())
    assert found.losses == {"ce": 1.0, "kl": 1.0}
    assert found.samples == (168, 12) and found.trained.best > 0
    assert found.reached.count == found.reached.reached == 8 * 5 + 3 * 9
    assert found.history[-1].loss < found.history[0].loss


def test_zeros_stay_zero():
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    weight[np.arange(8), np.arange(8) % 4] = 0
    student = analyze(patch(classifier(0.5), {"a": weight}))
    found = tune(student, None, [samples_in(ARRAYS)], Training(epochs=1), Place())
    got = found.trained.weights["a"]
    np.testing.assert_array_equal(got == 0, weight == 0)
    assert (got != weight)[weight != 0].all()


def test_images_are_mirrored_where_that_is_natural():
    """A network that averages over space does not see it; the same run without says so."""
    text = """
    net (float[N, 1, 8, 8] x) => (float[N, 2] p) {
        m = GlobalAveragePool (x)
        f = Flatten (m)
        p = Gemm <transB = 1> (f, a, b)
    }
    """
    model = text_model(text, a=(2, 1), b=(2,))
    x = np.random.default_rng(0).standard_normal((40, 1, 8, 8)).astype(np.float32)
    arrays = {"x": x, "labels": (x.mean((1, 2, 3)) > 0).astype(np.int64)}
    student, samples = analyze(model), [samples_in(arrays)]
    a, b = (
        tune(student, None, samples, Training(epochs=1, augment=augment), Place())
        for augment in (True, False)
    )
    assert a.history[0] == b.history[0] and a.history[1] != b.history[1]


def test_a_single_sample_is_too_few():
    one = {name: array[:1] for name, array in ARRAYS.items()}
    with pytest.raises(InputError, match="all of the 1 samples are held out to judge by: give"):
        tune(analyze(classifier()), None, [samples_in(one)], Training(), Place())


def test_samples_without_labels_need_a_teacher():
    sets = [samples_in(ARRAYS), samples_in({"x": lesson_arrays(180)["x"][120:]})]
    with pytest.raises(InputError, match="samples in arrays have no labels of 'p', and no loss"):
        tune(analyze(classifier()), None, sets, Training(), Place())
    with pytest.raises(InputError, match="give a --teacher, or leave these samples out"):
        tune(analyze(classifier()), analyze(classifier()), sets, Training(loss={"ce": 1}), Place())


def test_nothing_is_left_to_train():
    place = Place(excluded=frozenset("abcd"))
    with pytest.raises(InputError, match=r"no weight of floating point .* exclude less"):
        tune(analyze(classifier()), None, [samples_in(ARRAYS)], Training(), place)
