"""Small models to fine-tune, what they are taught, and by whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx_text import run
from text_models import stored_array, text_model

from onnxprune.groups.analysis import analyze
from onnxprune.training.compared import Losses, losses_of
from onnxprune.training.options import Training
from onnxprune.training.samples import Batch, SampleSet
from onnxprune.training.session import Lesson, OpenTraining, open_training

Array = NDArray[Any]
CLASSES = 3
#: Two layers and a Softmax: scores `s`, probabilities `p`.
CLASSIFIER = """
net (float[N, 4] x) => (float[N, 3] p) {
    h = Gemm <transB = 1> (x, a, b)
    r = Relu (h)
    s = Gemm <transB = 1> (r, c, d)
    p = Softmax (s)
}
"""


def classifier(noise: float = 0.0) -> onnx.ModelProto:
    """Three classes of four numbers; with noise on its weights it is often wrong."""
    rng = np.random.default_rng(1)
    shapes = {"a": (8, 4), "b": (8,), "c": (CLASSES, 8), "d": (CLASSES,)}
    weights = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    other = np.random.default_rng(2)
    moved = {k: v + noise * other.standard_normal(v.shape) for k, v in weights.items()}
    return text_model(CLASSIFIER, **{k: v.astype(np.float32) for k, v in moved.items()})


def lesson_arrays(count: int = 256) -> dict[str, Array]:
    """Inputs, and as labels the classes that the classifier finds."""
    x = np.random.default_rng(3).standard_normal((count, 4)).astype(np.float32)
    return {"x": x, "labels": run(classifier(), x=x)["p"].argmax(1)}


def batch_of(arrays: dict[str, Array], output: str = "p") -> Batch:
    """Arrays as one batch; `labels` are those of an output."""
    inputs = {name: array for name, array in arrays.items() if name != "labels"}
    labels = {output: arrays["labels"]} if "labels" in arrays else {}
    return Batch(inputs, labels, len(next(iter(inputs.values()))))


def samples_in(arrays: dict[str, Array], output: str = "p", whole: bool = False) -> SampleSet:
    """Arrays as samples."""
    return SampleSet([batch_of(arrays, output)], "digest", "arrays", whole)


def opened(
    model: onnx.ModelProto,
    batch: Batch,
    teacher: onnx.ModelProto | None = None,
    **options: Any,
) -> OpenTraining:
    """A model opened for training on one batch."""
    taught = None if teacher is None else analyze(teacher)
    training = Training(**options)
    losses: Losses = losses_of(training, bool(batch.labels), taught is not None)
    lesson = Lesson(losses, [batch], taught, {}, None, qat=training.qat)
    return open_training(analyze(model), lesson)


def weights(model: onnx.ModelProto) -> dict[str, Array]:
    """Stored tensors by name."""
    return {tensor.name: stored_array(model, tensor.name) for tensor in model.graph.initializer}
