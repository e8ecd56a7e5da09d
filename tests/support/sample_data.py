"""Models of one or two inputs that take samples of any kind, and such samples."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from onnxprune.calibration.samples import Calibration


def model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


ONE = model("m (float[N,3,4] x) => (float[N,3,4] y) { y = Relu(x) }")
BY_TWO = model("m (float[2,3,4] x) => (float[2,3,4] y) { y = Relu(x) }")
TWO = model(
    "m (float[N,3] a, int64[N,L] b) => (float[N,3] y, int64[N,L] z) { y = Relu(a) z = Neg(b) }"
)
SCALAR = model("m (float[N,3] a, float s) => (float[N,3] y) { y = Mul(a, s) }")
SERIES = model("m (float[N] a, float s) => (float[N] y) { y = Mul(a, s) }")
STATE = model("m (float[N,3] x, float[2,N,3] h) => (float[2,N,3] y) { y = Add(x, h) }")
NAMED = model("m (float[N,3] a, float[M,3] b) => (float[K,3] y) { y = Concat<axis=0>(a, b) }")
X = np.random.default_rng(0).standard_normal((10, 3, 4)).astype(np.float32)
A, B = X[:, :, 0].copy(), np.arange(50).reshape(10, 5)


def joined(data: Calibration, name: str = "x") -> np.ndarray:
    """All samples of one input, batch after batch."""
    return np.concatenate([feeds[name] for feeds in data.batches])


def write_sets(folder: Path, *arrays: np.ndarray) -> None:
    """A folder as the ONNX test suite has them."""
    folder.mkdir(parents=True)
    for k, array in enumerate(arrays):
        data = numpy_helper.from_array(array).SerializeToString()
        (folder / f"input_{k}.pb").write_bytes(data)
    (folder / "output_0.pb").write_bytes(b"")
