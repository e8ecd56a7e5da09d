"""Seeded samples for a model, and what onnxruntime makes of them."""

import numpy as np
import onnx
from networks import samples_of

from onnxprune.ir import graph, runtime


def samples(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return samples_of(model, np.random.default_rng(5))


def outputs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = runtime.open_session(graph.model_bytes(model))
    return np.concatenate([v.ravel() for v in runtime.run(session, feeds).values()])
