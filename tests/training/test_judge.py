"""Loss and score on held-out samples."""

import numpy as np
from lessons import batch_of, classifier, lesson_arrays, opened

from onnxprune.training.judge import judge

ARRAYS = lesson_arrays(60)
PARTS = [batch_of({k: v[a:b] for k, v in ARRAYS.items()}) for a, b in ((0, 40), (40, 60))]


def test_a_model_that_is_right():
    found = judge(opened(classifier(), PARTS[0], loss={"ce": 1.0}), PARTS, {})
    assert found.score == 1 and found.loss > 0
    taught = opened(classifier(), PARTS[0], classifier(), loss={"kl": 3.0})
    assert judge(taught, PARTS, {}).loss < 1e-6 and judge(taught, PARTS, {}).score is None


def test_parts_count_by_their_samples():
    found = opened(classifier(1.0), PARTS[0], loss={"ce": 2.0})
    whole = judge(found, [batch_of(ARRAYS)], {})
    parts = judge(found, PARTS, {})
    np.testing.assert_allclose([parts.loss, parts.score or 0], [whole.loss, whole.score or 0])
    assert whole.score is not None and whole.score < 1
    wrong = judge(found, PARTS, {"d": np.array([99, 0, 0], np.float32)})
    assert wrong.score == np.mean(ARRAYS["labels"] == 0)
