"""Steps of layers are scaled by what the layers read."""

import numpy as np
from lessons import batch_of, classifier, lesson_arrays

from onnxprune.groups.analysis import analyze
from onnxprune.ir import skeleton
from onnxprune.training.moments import with_scales
from onnxprune.training.parameters import LayerParameter, PlainParameter, found_parameters


def test_moments_of_the_first_layer_are_those_of_the_input():
    arrays = lesson_arrays(128)
    del arrays["labels"]
    analysis = analyze(classifier())
    bare = skeleton.without_constant_nodes(analysis.model)
    parameters, _ = found_parameters(analysis, {})
    plain = PlainParameter("other", np.zeros(2, np.float32))
    parts = [batch_of({"x": arrays["x"][:64]}), batch_of({"x": arrays["x"][64:]})]
    first, second, third = with_scales(analysis, bare, [*parameters, plain], parts, None)
    assert third is plain and isinstance(second, LayerParameter)
    assert isinstance(first, LayerParameter) and first.scale is not None
    x = np.concatenate([arrays["x"], np.ones((128, 1))], 1)
    np.testing.assert_allclose(first.scale.moments[0], x.T @ x / 128, rtol=1e-6)
    assert with_scales(analysis, bare, [plain], parts, None) == [plain]
