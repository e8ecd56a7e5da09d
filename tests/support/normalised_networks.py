"""Networks whose normalisations state the true statistics of noise."""

import numpy as np
import onnx
from networks import Net

from onnxprune.ir import graph, runtime


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    (result,) = runtime.run(runtime.open_session(graph.model_bytes(model)), {"x": x}).values()
    return result


def normalised(seed: int = 0) -> tuple[onnx.ModelProto, np.ndarray, str]:
    """Two convolutions with a normalisation between, whose statistics are those of noise.

    The filters of the first are mixtures of four.
    """
    rng = np.random.default_rng(seed)
    n = Net(x=("N", 3, 12, 12))
    mixed = rng.standard_normal((8, 4)) @ rng.standard_normal((4, 27)) / 7
    y = n.op("Conv", "x", n.const(mixed.reshape(8, 3, 3, 3).astype(np.float32)))
    x = rng.standard_normal((64, 3, 12, 12)).astype(np.float32)
    made = outputs(n.model(y), x)
    stats = made.mean((0, 2, 3)), made.var((0, 2, 3))
    gamma = rng.uniform(0.5, 1.5, 8).astype(np.float32)
    beta = rng.uniform(-0.5, 1.5, 8).astype(np.float32)
    y = n.relu(n.op("BatchNormalization", y, *map(n.const, (gamma, beta, *stats))))
    return n.model(n.conv(y, 8, 5, pads=[0] * 4)), x, y
