"""Prune a classifier of text lines (upright or upside down, PP-OCR), on lines without labels.

    python examples/ocr_angle.py MODEL.onnx LINES.npz [SHARE_OF_MACS]

LINES.npz holds bytes of pictures (n, 3, 48, 192): `calib` calibrates, `x` with `labels` (n,)
measures. The model is ch_ppocr_mobile_v2.0_cls_infer.onnx of the package rapidocr-onnxruntime.
Writes MODEL_pruned.onnx.
"""

import sys
from pathlib import Path

import numpy as np
import onnx

import onnxprune


def normal(pixels):
    """Bytes as the model reads them: -1 to 1."""
    return pixels.astype(np.float32) / 127.5 - 1


source, lines, share = (*sys.argv[1:], "0.6")[:3]
with np.load(lines) as file:
    held = dict(file)
(name,) = {i.name for i in onnx.load(source).graph.input}
result = onnxprune.prune(
    source,
    {"macs": float(share)},
    calib={name: normal(held["calib"])},
    data={name: normal(held["x"]), "labels": held["labels"]},
)
result.save(Path(source).stem + "_pruned.onnx")
print(result.report.text())
